"""Words that carry a period without ending a sentence, and words that tell where one may end.

All in lower case without the final period.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Abbreviations:
    """``never`` ends no sentence; ``maybe`` ends one when a typical opening word follows;
    ``counting`` is an abbreviation only before a number; ``suffixes`` end words like "Hauptstr".
    """

    never: frozenset[str]
    maybe: frozenset[str]
    counting: frozenset[str]
    conjunctions: frozenset[str]
    prepositions: frozenset[str]
    ordinal_period: bool = False
    suffixes: tuple[str, ...] = ()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


OPENERS = _words(
    "the it he she we they this that these those there here but and if in when what why how where"
    " you so then however please yes my our your his her their its at on for after before"
    " also thank thanks now once to"
)
"""English words that, capitalised after an abbreviation, most likely open a new sentence."""

AFTER_CLOCK = _words(
    "eastern central mountain pacific est edt cst cdt mst mdt pst pdt et ct mt pt gmt utc bst cet"
    " cest monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs"
    " fri sat sun january february march april may june july august september october november"
    " december jan feb mar apr jun jul aug sep sept oct nov dec"
)
"""Capitalised words that continue a sentence after "a.m." and "p.m."."""

BANG_NAMES = _words("yahoo jeopardy oklahoma yum")
"""Names written with an exclamation mark."""

_EN_NEVER = _words(
    "dr mr mrs ms mx messrs prof rev hon gen col maj capt cpt lt sgt cpl pvt adm cmdr sen rep gov"
    " pres supt insp det amb treas fr br mme mlle mt ft vs v viz cf approx appt"
    " e.g i.e eg ie ca resp incl excl esp attn asst assoc assn vp"
)
_EN_MAYBE = _words(
    "st ave blvd rd hwy pkwy sq apt ste bldg inc ltd corp co llc plc bros jr sr esq etc al dept"
    " univ govt est ext tel ph.d m.d b.a m.a b.s m.s d.d.s j.d r.n mfg natl intl dist min hr hrs"
    " oz lb lbs mph tsp tbsp qt gal pt yr yrs mo wk"
)
_CALENDAR = _words(
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri sat sun"
)
_EN_COUNTING = _words(
    "no nos nr fig figs eq eqs sec secs art arts ch chap chaps vol vols p pp par para ed eds rm"
    " pt pts op bk ver art item tab tabs pg pgs n"
)
CALENDAR = _CALENDAR
"""Short months and weekdays; abbreviations only when capitalised ("Sat." but not "sat.")."""

_ENGLISH = Abbreviations(
    never=_EN_NEVER,
    maybe=_EN_MAYBE | _CALENDAR,
    counting=_EN_COUNTING,
    conjunctions=_words(
        "and but or nor so because although though while whereas unless until since if when"
        " whenever where which who whom that than before after then whether"
    ),
    prepositions=_words(
        "with without for from to into onto in on at by about between through during over under"
        " against among across around of as"
    ),
)


def _european(  # one line a language below
    never: str, counting: str, conjunctions: str, prepositions: str, *, ordinal: bool = False
) -> Abbreviations:
    return Abbreviations(
        never=_words(never) | _words("dr prof mr vs"),
        maybe=_words("etc inc ltd corp co jr sr al"),
        counting=_words(counting) | _words("no nr n p pp vol fig art"),
        conjunctions=_words(conjunctions),
        prepositions=_words(prepositions),
        ordinal_period=ordinal,
        suffixes=("str",),
    )


_OTHERS = {
    "de": _european(
        "hr fr frl st str bzw ca z.b d.h u.a o.ä z.t i.d.r v.a s.o s.u vgl ggf evtl inkl zzgl exkl"
        " geb gest bspw sog usf dipl ing med phil jur abs tel jan feb mär apr jun jul"
        " aug sep sept okt nov dez",
        "bd kap s aufl abb tab ziff zi",
        "und aber oder denn weil obwohl während dass wenn als damit sondern sowie",
        "mit für von zu in auf an bei nach über unter vor durch gegen ohne um aus",
        ordinal=True,
    ),
    "fr": _european(
        "m mm mme mmes mlle mgr me ste p.ex c.-à-d av bd env janv févr avr juil sept oct nov déc"
        " tél cf ex",
        "chap éd t vol",
        "et mais ou donc car parce que qui quand lorsque tandis puisque si comme",
        "avec pour de dans sur à chez par sans sous entre vers depuis",
    ),
    "es": _european(
        "sr sra srta sres dra d dña ud uds lic ing arq gral av avda p.ej ej aprox tel ee.uu"
        " ene feb abr jun jul ago sept oct nov dic",
        "núm pág págs cap",
        "y e pero o u porque aunque mientras que cuando si como donde sino",
        "con para por de en a sobre sin entre desde hasta hacia",
    ),
    "it": _european(
        "sig sigg sig.ra dott dott.ssa ing avv arch geom on rag p.es es ecc tel ca"
        " genn febbr apr magg giu lug ago sett ott nov dic",
        "pag pagg cap",
        "e ed ma o oppure perché anche mentre che quando se come dove però",
        "con per di in su da a tra fra senza verso",
    ),
    "pt": _european(
        "sr sra srs dra d eng av p.ex ex tel aprox jan fev abr jun jul ago set out nov dez",
        "núm pág págs cap",
        "e mas ou porque embora enquanto que quando se como onde pois",
        "com para por de em a sobre sem entre desde até",
    ),
    "nl": _european(
        "dhr mevr mw drs ir ing mej bijv bv o.a d.w.z m.a.w i.p.v z.s.m enz ca evt incl excl tel st"
        " jan feb mrt apr jun jul aug sep sept okt nov dec",
        "blz hfst",
        "en maar of want omdat hoewel terwijl dat als wanneer zodat",
        "met voor van naar in op aan bij over onder door tegen zonder uit",
    ),
}


@lru_cache(maxsize=16)
def abbreviations(language: str | None) -> Abbreviations:
    """The table for a language tag such as ``en-GB``; English for unknown and missing ones."""
    primary = (language or "en").replace("_", "-").split("-")[0].lower()
    return _OTHERS.get(primary, _ENGLISH)
