"""Dates: "2026-11-21", "11/21/2026", "21.11.2026", "Nov 21, 2026", "21 November", "the '90s"."""

from __future__ import annotations

import re

from vivavoce.text.english.numbers import cardinal, ordinal, plural_of, year
from vivavoce.text.english.written import LEFT

_MONTHS_TEXT = (
    "January February March April May June July August September October November December"
)
MONTHS = tuple(_MONTHS_TEXT.split())
_SHORT = {name[:3]: name for name in MONTHS} | {"Sept": "September"}
_MONTH = rf"({'|'.join([*MONTHS, *_SHORT])})\b\.?"
_DAY = r"(0?[1-9]|[12]\d|3[01])"
_ENDING = r"(?:st|nd|rd|th)?"
_YEAR = r"([12]\d{3})(?!\d|[.,:/]\d)"
_STOP = r"(?![\w]|[.,:/-]\d|/)"

_ISO = re.compile(
    rf"{LEFT}([12]\d{{3}})([-/.])(0?[1-9]|1[0-2])\2{_DAY}(?:T(\d\d:\d\d)(?::00(?:\.\d+)?)?(Z)?)?{_STOP}"
)
_NUMERIC = re.compile(rf"{LEFT}(\d{{1,2}})([/.-])(\d{{1,2}})\2(\d{{4}}|\d{{2}}){_STOP}")
_MONTH_DAY = re.compile(
    rf"\b{_MONTH}\s(?:the\s)?{_DAY}{_ENDING}(?:\s?(-|to|and|&)\s?{_DAY}{_ENDING})?(?![\w%]|[.:/]\d|,\d)(?:,?\s{_YEAR})?"
)
_DAY_MONTH = re.compile(
    rf"(\bthe\s)?{LEFT}{_DAY}{_ENDING}(?:\s?(-|to|and|&)\s?{_DAY}{_ENDING})?(?:\sof)?[\s-]{_MONTH}(?:,?[\s-]{_YEAR})?(?!\w)",
)
_MONTH_YEAR = re.compile(rf"\b{_MONTH},?\s{_YEAR}")
_SLASHED = re.compile(rf"{LEFT}(0?[1-9]|1[0-2])/{_DAY}(?![\w/]|[.,]\d)")
_DATE_WORD = re.compile(
    r"\b(?:on|until|since|due|dated?|deadline|born|starting|ending)[:\s]{1,2}$", re.I
)
_FRACTION_BOTTOMS = frozenset({2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16})
_DECADE = re.compile(r"(?:(?<!\w)'|(?<!\w)(?<!\d[.,]))((?:1[1-9]|20)?[1-9]0|1[1-9]00|2000)'?s\b")
_SECONDS_FOLLOW = re.compile(r"\s(?:timeout|delay|interval|limit|window|pause|clip|later|ago)")
_WEEKDAYS_TEXT = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_WEEKDAYS = {name[:3]: name for name in _WEEKDAYS_TEXT.split()}
_WEEKDAY = re.compile(
    rf"\b(Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun)\b(?=,?\s(?:the\s)?(?:{_DAY}\b|{_MONTH}))"
)
_NUMERIC_HINT = re.compile(r"\d[-/.]\d\d?[-/.]\d")
_MONTH_HINT = re.compile("Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec")
_ERA_HINT = re.compile("CE|BC|AD")
_SHORT_YEAR = re.compile(r"(?<!\w)'(\d{2})(?![\w'])")
_EARLIER = re.compile(rf"{LEFT}(\d{{1,4}})(\s?)(BCE|CE|BC|AD)\b|\bAD\s(\d{{1,4}})\b")


def _written_year(text: str) -> str:
    if len(text) == 2:
        return year(("20" if int(text) < 50 else "19") + text)
    return year(text)


def _us_date(month: int, day: str, written: str) -> str:
    return f"{MONTHS[month - 1]} {ordinal(day)}, {_written_year(written)}"


def _say_iso(found: re.Match[str]) -> str:
    written, _, month, day, clock, zulu = found.groups()
    words = _us_date(int(month), day, written)
    return f"{words}, {clock}{' UTC' if zulu else ''}" if clock else words


def _say_numeric(found: re.Match[str]) -> str:
    """US order with slashes and hyphens, European with dots, whichever is possible."""
    first, mark, second, written = found.groups()
    month, day = (second, first) if mark == "." else (first, second)
    if int(month) > 12:
        month, day = day, month
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return found[0]
    if len(written) == 2 and mark == ".":
        return found[0]
    return _us_date(int(month), day, written)


def _say_weekday(found: re.Match[str]) -> str:
    return _WEEKDAYS[found[1][:3]]


def _days(first: str, joint: str | None, second: str | None) -> str:
    if second is None:
        return ordinal(first)
    return f"{ordinal(first)} {'to' if joint in {'-', 'to'} else 'and'} {ordinal(second)}"


def _month(name: str) -> str:
    return _SHORT.get(name, name)


def _say_month_day(found: re.Match[str]) -> str:
    month, first, joint, second, written = found.groups()
    words = f"{_month(month)} {_days(first, joint, second)}"
    return f"{words}, {year(written)}" if written else words


def _say_day_month(found: re.Match[str]) -> str:
    the, first, joint, second, month, written = found.groups()
    words = f"{the or 'the '}{_days(first, joint, second)} of {_month(month)}"
    return f"{words}, {year(written)}" if written else words


def _say_month_year(found: re.Match[str]) -> str:
    return f"{_month(found[1])} {year(found[2])}"


def _say_slashed(found: re.Match[str]) -> str:
    month, day = found.groups()
    before = found.string[max(0, found.start() - 12) : found.start()]
    if not _DATE_WORD.search(before) and int(day) in _FRACTION_BOTTOMS | set(
        range(1, int(month) + 1)
    ):
        return found[0]
    if (month, day) == ("9", "11"):
        return "nine eleven"
    return f"{MONTHS[int(month) - 1]} {ordinal(day)}"


def _say_decade(found: re.Match[str]) -> str:
    digits = found[1]
    if len(digits) == 2:
        if _SECONDS_FOLLOW.match(found.string, found.end()):
            return found[0]
        return plural_of(cardinal(digits))
    if digits == "2000":
        return "two thousands"
    return plural_of(year(digits))


def _say_era(found: re.Match[str]) -> str:
    if found[4]:
        return f"AD {year(found[4])}"
    return f"{year(found[1])} {found[3]}"


def _say_short_year(found: re.Match[str]) -> str:
    oh = "oh " if found[1][0] == "0" and found[1] != "00" else ""
    return oh + cardinal(found[1])


def speak_dates(text: str) -> str:
    """Dates, decades and years that carry an era or an apostrophe."""
    if _NUMERIC_HINT.search(text):
        text = _NUMERIC.sub(_say_numeric, _ISO.sub(_say_iso, text))
    if _MONTH_HINT.search(text):
        text = _WEEKDAY.sub(_say_weekday, text)
        text = _MONTH_DAY.sub(_say_month_day, text)
        text = _DAY_MONTH.sub(_say_day_month, text)
        text = _MONTH_YEAR.sub(_say_month_year, text)
    if "/" in text:
        text = _SLASHED.sub(_say_slashed, text)
    if _ERA_HINT.search(text):
        text = _EARLIER.sub(_say_era, text)
    if "0s" in text or "0's" in text:
        text = _DECADE.sub(_say_decade, text)
    return _SHORT_YEAR.sub(_say_short_year, text) if "'" in text else text
