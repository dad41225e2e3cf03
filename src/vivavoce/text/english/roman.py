"""Roman numerals after names and numbered things: "Henry VIII", "Chapter IV", "World War II"."""

from __future__ import annotations

import re

from vivavoce.text.english.numbers import cardinal, ordinal

_RULERS = (
    "King|Queen|Pope|Emperor|Empress|Tsar|Henry|Louis|Charles|George|Edward|Richard|William|James"
    "|John|Paul|Elizabeth|Mary|Napoleon|Benedict|Pius|Leo|Philip|Frederick|Catherine|Nicholas"
    "|Alexander|Peter|Ivan|Gregory|Innocent|Clement|Urban|Boniface|Otto|Wilhelm|Ferdinand|Francis"
    "|Leopold|Albert|Victor|Christian|Gustav|Carl|Harald|Haakon|Olav|Robert|Malcolm|Stephen"
    "|Ramses|Ramesses|Ptolemy|Cleopatra|Darius|Xerxes|Juan|Carlos|Alfonso|Felipe|Margrethe"
)
_NUMBERED = (
    "Chapter|Part|Volume|Vol|Book|Act|Scene|Section|Article|Phase|Stage|Type|Class|Level|Appendix"
    "|Figure|Fig|Table|Title|Unit|Grade|Round|Episode|Season|War|Bowl|Mark|Schedule|Tier|Division"
    "|Category|Module|Lesson|Page|Paragraph|Step|Day|Week|Year|Olympiad|Rule|Zone|Region|Rocky"
)
_NUMERAL = r"M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
_AFTER_RULER = re.compile(
    rf"\b({_RULERS})\s((?=[IVX])(?:X{{0,3}})(?:IX|IV|V?I{{0,3}}))\b(?!['-]\w|\.[A-Z])(?=('s)?(\s[a-z]+)?)"
)
_AFTER_THING = re.compile(
    rf"\b({_NUMBERED})s?\s((?=[IVXLCDM]){_NUMERAL})\b(?!'(?!s\b))", re.IGNORECASE
)
_AFTER_NAME = re.compile(
    r"\b([A-Z][\w'-]*[a-z])\s((?=[IVX]{2})X{0,3}(?:IX|IV|V?I{0,3}))\b(?!['.]\w)"
)
_SMALL = re.compile("[IVX]+")  # "Section C" and "Type D" are letters
_WORLD_WAR = re.compile(r"\bWW(II?|[12])\b")
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
# What may follow "Charles I" where "I" is not the speaker.
_AFTER_FIRST = frozenset({" of", " was", " and", " had", " in", " by", " who", " died", " or"})
_CANDIDATE = re.compile(r"\b[IVXLCDM]+\b|\bWW[I12]", re.IGNORECASE)


def roman_value(numeral: str) -> int:
    """``"XIV"`` -> 14; the numeral is taken to be well formed."""
    values = [_VALUES[char] for char in numeral]
    signed = [
        -value if index + 1 < len(values) and value < values[index + 1] else value
        for index, value in enumerate(values)
    ]
    return sum(signed)


def _say_ruler(found: re.Match[str]) -> str:
    name, numeral, _, follower = found.groups()
    if numeral == "I" and follower is not None and follower not in _AFTER_FIRST:
        return found[0]
    if numeral in {"V", "X"} and name == "Malcolm":
        return found[0]
    return f"{name} the {ordinal(roman_value(numeral))}"


def _say_thing(found: re.Match[str]) -> str:
    numeral = found[2]
    if not numeral.isupper() or (numeral == "I" and found[1].islower()):
        return found[0]
    if not _SMALL.fullmatch(numeral) and found[1] not in {"Bowl", "Chapter", "Olympiad"}:
        return found[0]
    return f"{found[0][: -len(numeral)]}{cardinal(roman_value(numeral))}"


def speak_roman(text: str) -> str:
    """ "Louis XIV" -> "Louis the fourteenth"; a lone "I" is left to mean the speaker."""
    if not _CANDIDATE.search(text):
        return text
    text = _WORLD_WAR.sub(
        lambda found: f"World War {'two' if found[1] in {'II', '2'} else 'one'}", text
    )
    text = _AFTER_RULER.sub(_say_ruler, text)
    text = _AFTER_THING.sub(_say_thing, text)
    return _AFTER_NAME.sub(lambda found: f"{found[1]} {cardinal(roman_value(found[2]))}", text)
