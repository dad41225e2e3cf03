"""Abbreviations written out, initials joined, and the few acronyms that would be misread."""

from __future__ import annotations

import re

# Read as written out wherever they stand; a dot that may end the sentence is kept at its end.
_ANYWHERE = {
    "mr": "Mister", "mrs": "Missus", "ms": "Miz", "messrs": "Messers", "prof": "Professor",
    "jr": "Junior", "sr": "Senior", "vs": "versus", "etc": "et cetera", "approx": "approximately",
    "inc": "Incorporated", "ltd": "Limited", "corp": "Corporation", "bros": "Brothers",
    "ave": "Avenue", "blvd": "Boulevard", "hwy": "Highway", "pkwy": "Parkway",
    "apt": "apartment", "dept": "department", "tel": "telephone", "esp": "especially",
    "incl": "including", "misc": "miscellaneous", "max": "maximum", "min": "minimum",
    "avg": "average", "temp": "temperature", "govt": "government", "assn": "association",
    "est": "established", "resp": "respectively", "cf": "compare", "viz": "namely",
    "mon": "Monday", "tue": "Tuesday", "tues": "Tuesday", "wed": "Wednesday", "thu": "Thursday",
    "thur": "Thursday", "thurs": "Thursday", "fri": "Friday", "jan": "January",
    "feb": "February", "apr": "April", "jun": "June", "jul": "July", "aug": "August",
    "sep": "September", "sept": "September", "oct": "October", "nov": "November",
    "dec": "December", "univ": "University", "intl": "international", "natl": "national",
}  # fmt: skip
# Only before a name.
_BEFORE_NAME = {
    "gov": "Governor", "sen": "Senator", "rep": "Representative", "gen": "General",
    "col": "Colonel", "capt": "Captain", "lt": "Lieutenant", "sgt": "Sergeant", "maj": "Major",
    "cpl": "Corporal", "cmdr": "Commander", "adm": "Admiral", "hon": "Honorable",
    "rev": "Reverend", "mt": "Mount", "ft": "Fort", "pres": "President", "supt": "Superintendent",
}  # fmt: skip
# Only after a name.
_AFTER_NAME = {
    "co": "Company",
    "rd": "Road",
    "ln": "Lane",
    "ct": "Court",
    "pl": "Place",
    "sq": "Square",
}
# Only before a number.
_BEFORE_NUMBER = {
    "no": "number", "nos": "numbers", "p": "page", "pp": "pages", "fig": "figure",
    "figs": "figures", "vol": "volume", "vols": "volumes", "ch": "chapter", "sec": "section",
    "ext": "extension", "art": "article", "para": "paragraph", "eq": "equation", "ed": "edition",
    "rm": "room", "ste": "suite", "approx": "approximately", "ca": "circa", "c": "circa",
    "sat": "Saturday", "sun": "Sunday", "mar": "March", "nr": "number",
}  # fmt: skip
# Two readings: before a name, after one.
_EITHER = {"dr": ("Doctor", "Drive"), "st": ("Saint", "Street")}
_NOT_NAMES = frozenset({"max", "temp", "min", "art", "ed", "no"})
_UNITS = frozenset({"min", "ft", "sec", "ch"})
_ROMAN_NUMBERED = frozenset({"vol", "ch", "sec", "art", "fig", "para"})
_UNDOTTED = frozenset({"mr", "mrs", "ms", "vs", "prof", "jr", "sr", "blvd", "dept", "approx"})
_FREE = r"(?<![\w.'@/-].)"
_DOTTED = re.compile(rf"([A-Za-z]{_FREE}[A-Za-z]*+)(\.)(?!\w)")
_PLAIN = re.compile(rf"([MDSJPBva]{_FREE}(?:rs?|t|r|rof|lvd|ept|s|pprox))()(?![\w.])")
_DIGIT_AHEAD = re.compile(r"[\s#]{0,2}\d")
_ROMAN_AHEAD = re.compile(r"\s[IVX]+\b(?!\s[a-z])")
_DAY_AHEAD = re.compile(r",|\s(?:\d|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)")
_NAME_AHEAD = re.compile(r"\s+[\"']?[A-Z]")
_NAME_BEFORE = re.compile(r"(?:[A-Z][\w'-]*|\d(?:st|nd|rd|th)|&|\band)\s$")
_HOUSE_BEFORE = re.compile(r"\d\s(?:[NSEW]\.?\s)?(?:(?:[A-Z]|\d+(?:st|nd|rd|th))[\w'-]*\s){1,3}$")
_SAINTLY = re.compile(
    r"\b(?:Mount|Mt|Lake|Fort|Ft|Port|Cape|Sault|Mary|Eva|Marie|Doctor|Mister|Missus|Miz|Professor|Saint|Visit|In|At|The)\.?\s$"
)
_ENDS = re.compile(r"[\"')\]\s]*$")
_BACK = 64

_PHRASES = {
    "e.g.": "for example", "i.e.": "that is", "a.k.a.": "also known as", "ph.d.": "PhD",
    "w/o": "without", "w/": "with", "c/o": "care of", "n/a": "N A", "b/c": "because",
    "p.o. box": "P O Box", "et al.": "et al", "a.m.": "AM", "p.m.": "PM", "d.c.": "DC",
    "at&t": "A.T and T", "aka": "also known as",
}  # fmt: skip
_PHRASE = re.compile(
    rf"(?<![\w.])(?:{'|'.join(re.escape(text) for text in _PHRASES)})(?:(?=\s)|(?!\w))",
    re.IGNORECASE,
)
_INITIALS = re.compile(r"(?<![\w.])((?:[A-Za-z]\.){2,10})(?![\w])")
_ONE_INITIAL = re.compile(r"([A-HJ-Z](?<![\w.'].))\.(?=\s[A-Z])")
_CALENDAR_TEXT = (
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April May "
    "June July August September October November December"
)
_CALENDAR = {name[:3]: name for name in _CALENDAR_TEXT.split()}
_SPAN = re.compile(
    rf"\b({'|'.join(_CALENDAR)})\.?\s?-\s?({'|'.join(_CALENDAR)})\b(?!-)(?:\.(?=\s\w))?"
)
_PHRASE_HINT = re.compile(r"[A-Za-z]\.[A-Za-z]|[wcnWN]/|b/c|&|al\.|(?i:aka)")
# All capitals that a phonemiser would read as a word although people spell them.
_SPELLED_NAMES = "LAX VIP FAQ ETA LED IPO SEO ICU AWS UAE ER OEM URI IRA ETF ACH EOD CAD"
_SPELLED = {name: ".".join(name) for name in _SPELLED_NAMES.split()}
_SPELLED_WORD = re.compile(rf"\b(?:{'|'.join(_SPELLED)})\b(?!\.[A-Z])")


def _is_end(text: str, position: int) -> bool:
    return _ENDS.match(text, position) is not None


def _for_street(text: str, start: int, end: int) -> bool:
    """Whether "St." or "Dr." closes a street name rather than opening a person's."""
    before = text[max(0, start - _BACK) : start]
    if _HOUSE_BEFORE.search(before):
        return True
    if _NAME_AHEAD.match(text, end):
        return False
    return _NAME_BEFORE.search(before) is not None and not _SAINTLY.search(before)


def _numbered(text: str, key: str, end: int) -> bool:
    if _DIGIT_AHEAD.match(text, end):
        return True
    return key in _ROMAN_NUMBERED and _ROMAN_AHEAD.match(text, end) is not None


def _either(text: str, word: str, start: int, end: int) -> str | None:
    """ "Dr" and "St", with or without a dot."""
    person, street = _EITHER[word.lower()]
    dotted = text[end - 1] == "."
    if not dotted and word not in {"Dr", "St"}:
        return None
    if _for_street(text, start, end):
        return street
    return person if _NAME_AHEAD.match(text, end) or (dotted and person == "Doctor") else None


def _anywhere(word: str, key: str) -> str | None:
    words = _ANYWHERE.get(key)
    if words is None or (word.isupper() and len(word) > 2):
        return None
    if words.istitle() and word.islower() and key not in _UNDOTTED:
        return None
    return None if key in _NOT_NAMES and not word.islower() else words


def _by_neighbors(text: str, word: str, start: int, end: int) -> str | None:
    key, before = word.lower(), text[max(0, start - _BACK) : start]
    if key in _UNITS and before.rstrip()[-1:].isdecimal():
        return None
    if key in _BEFORE_NUMBER and _numbered(text, key, end):
        return _BEFORE_NUMBER[key]
    if word[0].isupper():
        if key in {"sat", "sun", "mar"} and _DAY_AHEAD.match(text, end):
            return _BEFORE_NUMBER[key]
        if key in _AFTER_NAME and _NAME_BEFORE.search(before):
            return _AFTER_NAME[key]
        if key in _BEFORE_NAME and _NAME_AHEAD.match(text, end):
            return _BEFORE_NAME[key]
    return _anywhere(word, key)


def _expansion(text: str, word: str, start: int, end: int) -> str | None:
    key = word.lower()
    if key in _EITHER:
        return _either(text, word, start, end)
    if text[end - 1] != "." and key not in _UNDOTTED:
        return None
    return _by_neighbors(text, word, start, end)


def _expand(found: re.Match[str]) -> str:
    text = found.string
    words = _expansion(text, found[1], found.start(), found.end())
    if words is None:
        return found[0]
    if found[1][0].isupper():
        words = words[0].upper() + words[1:]
    return words + ("." if found[2] and _is_end(text, found.end()) else "")


def _say_phrase(found: re.Match[str]) -> str:
    words = _PHRASES[found[0].lower()]
    return words + ("." if found[0][-1] == "." and _is_end(found.string, found.end()) else "")


def _join_initials(found: re.Match[str]) -> str:
    joined = found[1].replace(".", "")
    if joined.islower():
        joined = joined.upper()
    return joined + ("." if found[1][-1] == "." and _is_end(found.string, found.end()) else "")


def speak_spans(text: str) -> str:
    """ "Mon-Fri" -> "Monday to Friday"; "Jan-Mar" alike."""
    return _SPAN.sub(lambda found: f"{_CALENDAR[found[1]]} to {_CALENDAR[found[2]]}", text)


def expand_abbreviations(text: str) -> str:
    """ "Dr. Smith" -> "Doctor Smith", "Elm Dr." -> "Elm Drive", "No. 5" -> "number 5"."""
    if "." in text:
        text = _DOTTED.sub(_expand, text)
    return _PLAIN.sub(_expand, text)


def join_initials(text: str) -> str:
    """ "U.S." -> "US", "e.g." -> "for example", "J. Smith" -> "J Smith"."""
    if _PHRASE_HINT.search(text):
        text = _INITIALS.sub(_join_initials, _PHRASE.sub(_say_phrase, text))
    return _ONE_INITIAL.sub(r"\1", text)


def spell_acronyms(text: str) -> str:
    """ "LAX" -> "L.A.X": dots make a phonemiser spell it."""
    return _SPELLED_WORD.sub(lambda found: _SPELLED[found[0]], text)
