"""Telephone, card and other grouped numbers: digit by digit, a comma where the groups part."""

from __future__ import annotations

import re

from vivavoce.text.english.numbers import digits
from vivavoce.text.english.patterns import say_digits

_EDGE = r"(?<![\w.,/+-])(?<![\w][(])"
_STOP = r"(?![\w]|[-./,]\d)"
_EXTENSION = r"(?:[,\s]{0,2}(?:ext\.?|extension|x)\s?(\d{1,6}))?"
_NORTH_AMERICA = re.compile(
    rf"{_EDGE}(\+?1[-. ]?)?(?:\((\d{{3}})\)[-. ]?|(\d{{3}})[-. ])(\d{{3}})[-. ](\d{{4}})"
    rf"{_EXTENSION}{_STOP}"
)
_INTERNATIONAL = re.compile(rf"(?<![\w.,/-])\+(\d(?:[ ().-]{{0,2}}\d){{6,14}}){_EXTENSION}{_STOP}")
_LOCAL = re.compile(rf"{_EDGE}(\d{{3}})-(\d{{4}}){_EXTENSION}{_STOP}")
_LOCAL_SPACED = re.compile(rf"(?<=(?:at|is|ll) )(\d{{3}}) (\d{{4}}){_STOP}")
_TRUNK = re.compile(rf"{_EDGE}\(?(0\d{{2,4}})\)?[ -](\d{{3,4}})[ -](\d{{3,4}}){_STOP}")
_SPACED_GROUPS = re.compile(rf"{_EDGE}\d{{3,4}}(?: \d{{3,6}}){{2,5}}{_STOP}")
_HYPHEN_GROUPS = re.compile(
    r"(?<![\w.,/-])(?!\d{4}-\d\d?-\d\d?(?!\d)|\d\d?-\d\d?-\d{4}(?!\d))\d+(?:-\d+){2,}(?![\w-])"
)
_VANITY = re.compile(rf"{_EDGE}(1-)?(8\d\d)-([A-Z]{{4,10}}|[A-Z]{{3}}-[A-Z]{{4}})(?![\w-])")
_EMERGENCY = re.compile(r"(?<=\b(?i:call|dial|text) )(\d{3})(?![\w-]|[.,:]\d)")
_EXT_NUMBER = re.compile(r"\b(extension)\s(\d{2,6})(?![\w-]|[.,]\d)", re.IGNORECASE)
_THREE_GROUPS = re.compile(r"\d[-. )]{1,2}\d{3,4}[-. ]\d{3}")
_GROUP = re.compile(r"\d+")
_COUNTRIES_TEXT = (
    "1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 54 55 56 57 60 61 62 63 64 "
    "65 66 81 82 84 86 90 91 92 93 94 95 98"
)
_COUNTRIES = frozenset(_COUNTRIES_TEXT.split())


def _grouped(groups: list[str]) -> str:
    return ", ".join(say_digits(group) for group in groups)


def _extension(number: str | None) -> str:
    return f", extension {digits(number)}" if number else ""


def _say_north_america(found: re.Match[str]) -> str:
    country, bracketed, area, exchange, line, extension = found.groups()
    code = bracketed or area
    spoken = "eight hundred" if code == "800" else digits(code)
    head = ("plus one, " if country[0] == "+" else "one, ") if country else ""
    return f"{head}{spoken}, {digits(exchange)}, {digits(line)}{_extension(extension)}"


def _say_vanity(found: re.Match[str]) -> str:
    area = "eight hundred" if found[2] == "800" else digits(found[2])
    return f"{'one, ' if found[1] else ''}{area}, {found[3].replace('-', ' ')}"


def _ungrouped(number: str) -> list[str]:
    """An international number written without spaces, cut after its country code."""
    code = next((number[:size] for size in (1, 2) if number[:size] in _COUNTRIES), number[:3])
    rest = number[len(code) :]
    if len(rest) == 10:
        return [code, rest[:3], rest[3:6], rest[6:]]
    cut = range(0, len(rest) - 3 if len(rest) % 3 == 1 else len(rest), 3)
    groups = [rest[start : start + 3] for start in cut]
    if len(rest) % 3 == 1:
        groups[-1] = rest[3 * (len(groups) - 1) :]
    return [code, *groups]


def _say_international(found: re.Match[str]) -> str:
    groups = _GROUP.findall(found[1])
    if len(groups) == 1:
        groups = _ungrouped(groups[0])
    return f"plus {_grouped(groups)}{_extension(found[2])}"


def _say_local(found: re.Match[str]) -> str:
    return f"{digits(found[1])}, {digits(found[2])}{_extension(found[3])}"


def _say_groups(found: re.Match[str]) -> str:
    return _grouped(_GROUP.findall(found[0]))


def speak_phones(text: str) -> str:
    """ "(555) 123-4567" -> "five five five, one two three, four five six seven"."""
    if _THREE_GROUPS.search(text):
        text = _NORTH_AMERICA.sub(_say_north_america, text)
        text = _TRUNK.sub(_say_groups, text)
        text = _SPACED_GROUPS.sub(_say_groups, text)
    if "+" in text:
        text = _INTERNATIONAL.sub(_say_international, text)
    if "-" in text:
        text = _HYPHEN_GROUPS.sub(_say_groups, _LOCAL.sub(_say_local, text))
    text = _LOCAL_SPACED.sub(_say_groups, text)
    text = _VANITY.sub(_say_vanity, text)
    text = _EMERGENCY.sub(lambda found: digits(found[1]), text)
    return _EXT_NUMBER.sub(lambda found: f"{found[1]} {digits(found[2])}", text)
