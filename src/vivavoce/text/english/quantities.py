"""Plain numbers, once all special readings are gone: ranges, fractions, years, the rest."""

from __future__ import annotations

import re

from vivavoce.text.english.numbers import cardinal, digits, ordinal, year
from vivavoce.text.english.patterns import (
    FREE_NUMBER,
    LEFT,
    NUMBER,
    say_number,
    say_quantity,
    say_whole,
)

_EUROPEAN = re.compile(rf"{LEFT}(\d{{1,3}}(?:\.\d{{3}})+),(\d{{1,2}})(?![\w.,])")
_LAKHS = re.compile(rf"{LEFT}\d{{1,2}}(?:,\d\d){{1,5}},\d{{3}}(?![\w,])")
_ORDINAL = re.compile(rf"{LEFT}(\d{{1,3}}(?:,\d{{3}})++|\d+)(?:st|nd|rd|th)\b", re.IGNORECASE)
_DASH_RANGE = re.compile(rf"(?<!\w-)({FREE_NUMBER})\s?-\s?({NUMBER})(?![\w%-]|[.,/]\d)")
_FRACTION = re.compile(rf"{LEFT}-?(?:\d{{1,4}} )?\d{{1,4}}/\d{{1,4}}(?![\w/]|[.,]\d)")
_RATING = re.compile(rf"({FREE_NUMBER})/(5|10)(?![\w/]|[.,]\d)")
_SCIENTIFIC = re.compile(rf"({FREE_NUMBER})[eE]([-+]?)(\d{{1,4}})(?!\w)")
_POINT = re.compile(r"(?<![\w.])([-+]?)\.(\d+)(?![\w.]*\d)")
_SIGNED = re.compile(rf"(?:(?<=[\s(,:;=])|(?<![^\s]))([-+])({NUMBER})(?![\w]|[./]\d)")
_SIGN_WORDS = {"": "", "-": "minus ", "+": "plus "}
_YEAR = re.compile(
    r"([12](?<!\w[12])(?<!\d[.,/][12])(?:(?<=1)[1-9]|(?<=2)0)\d\d)(?![\w%]|[.,/]\d)('s)?"
)
_OLD_YEAR = re.compile(
    r"(\b(?:in|year|since|by|until|circa|around)\s)(10\d\d)(?![\w%]|[.,/]\d)", re.I
)
_COUNTED = re.compile(r"\s([a-z]+(?:s|people|men|women|children|feet|sheep|units))\b")
_NOT_COUNTED_TEXT = (
    "was is has as this its us his hers ours yours theirs across unless perhaps always "
    "besides sales towards afterwards plus versus minus olympics elections"
)
_NOT_COUNTED = frozenset(_NOT_COUNTED_TEXT.split())
_YEAR_BEFORE = re.compile(
    r"\b(?:in|since|by|until|till|from|of|year|the|this|that|early|late|mid|circa|before|after|during"
    r"|spring|summer|fall|autumn|winter|and|to|'s)\s$",
    re.IGNORECASE,
)
_COUNT_BEFORE = re.compile(
    r"\b(?:about|over|than|nearly|almost|roughly|approximately|exactly|least|most|to|under|some"
    r"|another|only|just|of up)\s$",
    re.IGNORECASE,
)
_NUMBER = re.compile(rf"{FREE_NUMBER}(?![\w])")
_ANY = re.compile(r"\d+")
_SUM = re.compile(r"[=×÷*]|\d\s\+\s\d")


def _is_year(text: str) -> bool:
    four = len(text) == 4 and text.isdecimal()
    return four and text[0] in "12" and text[:2] != "10" and text < "2100"


def _side(text: str) -> str:
    return year(text) if _is_year(text) else say_number(text)


def _say_range(found: re.Match[str], is_sum: bool) -> str:
    first, second = found.groups()
    spaced = " -" in found[0]
    if spaced and (is_sum or _value(first) >= _value(second)):
        return f"{say_number(first)} minus {say_number(second)}"
    if _is_year(first) and len(second) == 2:
        return f"{year(first)} to {cardinal(second) if second[0] != '0' else digits(second)}"
    return f"{_side(first)} to {_side(second)}"


def _value(text: str) -> tuple[int, str]:
    """An order of written numbers without turning long ones into integers."""
    whole, _, part = text.replace(",", "").partition(".")
    plain = whole.lstrip("0")
    return len(plain), f"{plain}.{part}"


def _say_year(found: re.Match[str]) -> str:
    text, start = found.string, found.start()
    before = text[max(0, start - 16) : start]
    counted = _COUNTED.match(text, found.end())
    tail = found[2] or ""
    if counted and counted[1] not in _NOT_COUNTED and not _YEAR_BEFORE.search(before):
        return say_whole(found[1]) + tail
    if _COUNT_BEFORE.search(before) and counted:
        return say_whole(found[1]) + tail
    return year(found[1]) + tail


def _say_any(found: re.Match[str]) -> str:
    text, start, end = found.string, found.start(), found.end()
    before = " " if start and text[start - 1].isalnum() else ""
    after = " " if text[end : end + 1].isalnum() else ""
    return before + say_whole(found[0]) + after


def speak_ranges(text: str) -> str:
    """ "10-15" -> "ten to fifteen"; "1999-2003" as years; "5 - 3" -> "five minus three"."""
    is_sum = _SUM.search(text) is not None
    return _DASH_RANGE.sub(lambda found: _say_range(found, is_sum), text)


def speak_ordinals(text: str) -> str:
    """ "22nd" -> "twenty-second"."""
    return _ORDINAL.sub(lambda found: ordinal(found[1].replace(",", "")), text)


def plain_grouping(text: str) -> str:
    """ "1.234,56" -> "1234.56"; "1,00,000" (lakhs) -> "100,000"."""
    text = _LAKHS.sub(lambda found: f"{int(found[0].replace(',', '')):,}", text)
    return _EUROPEAN.sub(lambda found: f"{found[1].replace('.', '')}.{found[2]}", text)


def _say_rating(found: re.Match[str]) -> str:
    """ "4.5/5" and "8/10", but not "2/5" or "1/10"."""
    if "." not in found[1] and (found[2] == "5" or found[1] == "1"):
        return found[0]
    return f"{say_number(found[1])} out of {cardinal(found[2])}"


def speak_scientific(text: str) -> str:
    """ "3.0e8" -> "three point zero times ten to the power of eight"."""
    return _SCIENTIFIC.sub(
        lambda found: (
            f"{say_number(found[1])} times ten to the power of "
            f"{'minus ' if found[2] == '-' else ''}{cardinal(found[3])}"
        ),
        text,
    )


def speak_fractions(text: str) -> str:
    """ "3/4" -> "three quarters"."""
    text = _RATING.sub(_say_rating, text)
    return _FRACTION.sub(lambda found: say_quantity(found[0]), text)


def speak_numbers(text: str) -> str:
    """Years, then signed numbers, decimals and whole numbers; no digit is left."""
    if "10" in text:
        text = _OLD_YEAR.sub(lambda found: found[1] + year(found[2]), text)
    if "-" in text or "+" in text:
        text = _SIGNED.sub(
            lambda found: f"{'minus' if found[1] == '-' else 'plus'} {say_number(found[2])}", text
        )
    text = _YEAR.sub(_say_year, text)
    if "." in text:
        text = _POINT.sub(lambda found: f"{_SIGN_WORDS[found[1]]}point {digits(found[2])}", text)
    text = _NUMBER.sub(lambda found: say_number(found[0]), text)
    return _ANY.sub(_say_any, text)
