"""Dates and times of day: "2026-11-21", "Nov 21, 2026", "the '90s", "4:30 pm", "9am-5pm"."""

from __future__ import annotations

import re

from vivavoce.text.english.numbers import cardinal, digits, ordinal, plural_of, year
from vivavoce.text.english.patterns import LEFT

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
        text = _WEEKDAY.sub(lambda found: _WEEKDAYS[found[1][:3]], text)
        text = _MONTH_DAY.sub(_say_month_day, text)
        text = _DAY_MONTH.sub(_say_day_month, text)
        text = _MONTH_YEAR.sub(lambda found: f"{_month(found[1])} {year(found[2])}", text)
    if "/" in text:
        text = _SLASHED.sub(_say_slashed, text)
    if _ERA_HINT.search(text):
        text = _EARLIER.sub(_say_era, text)
    if "0s" in text or "0's" in text:
        text = _DECADE.sub(_say_decade, text)
    return _SHORT_YEAR.sub(_say_short_year, text) if "'" in text else text


_HALF = r"\s?([AaPp])\.?[Mm]\b\.?(?!\w)"
_CLOCK_HALF = re.compile(rf"{LEFT}(\d{{1,2}})(?:[:.]([0-5]\d))?(?::([0-5]\d))?{_HALF}")
_CLOCK = re.compile(
    rf"{LEFT}([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d)(?:\.(\d{{1,3}}))?)?(?![\w:]|[.,]\d)"
)
_ELAPSED = re.compile(rf"{LEFT}(\d{{1,4}}):([0-5]\d)(?::([0-5]\d))?(?![\w:]|[.,]\d)")
_HOUR_RANGE = re.compile(rf"{LEFT}(\d{{1,2}}(?:[:.]\d\d)?)\s?-\s?(\d{{1,2}}(?:[:.]\d\d)?{_HALF})")
_MILITARY = re.compile(rf"{LEFT}0(\d)00(?= hours)")
_HALF_RANGE = re.compile(rf"(\d{_HALF}|:\d\d)\s?-\s?(?=\d{{1,2}}(?::\d\d|{_HALF}))")
_RATIO = re.compile(rf"{LEFT}(\d{{1,4}}):(\d{{1,4}})(?![\w:]|[.,]\d)")
_H_CLOCK = re.compile(rf"{LEFT}([01]?\d|2[0-3])h([0-5]\d)(?!\w)")
_ENDS = re.compile(r"[\"')\]\s]*$")


def _minutes(text: str) -> str:
    """``"05"`` -> "oh five"."""
    return f"oh {cardinal(text)}" if text[0] == "0" else cardinal(text)


def _seconds(text: str | None) -> str:
    if not text or int(text) == 0:
        return ""
    return f" and {cardinal(text)} second{'' if int(text) == 1 else 's'}"


def _say_clock_half(found: re.Match[str]) -> str:
    hour, minute, second, half = found.groups()
    words = cardinal(hour)
    if minute and (minute != "00" or second):
        words += " " + (_minutes(minute) if minute != "00" else "o'clock")
    kept = "." if found[0][-1] == "." and _ENDS.match(found.string, found.end()) else ""
    return f"{words}{_seconds(second)} {half.upper()}M{kept}"


def _say_clock(found: re.Match[str]) -> str:
    hour, minute, second, part = found.groups()
    if part:
        seconds = f"{cardinal(second)} point {digits(part)}"
        return f"{cardinal(hour)} {_minutes(minute)} and {seconds} seconds"
    if minute != "00":
        words = f"{cardinal(hour)} {_minutes(minute)}"
    elif int(hour) == 0 or hour == "24":
        words = "midnight"
    else:
        words = f"{cardinal(hour)} o'clock" if int(hour) <= 12 else f"{cardinal(hour)} hundred"
    return words + _seconds(second)


def _say_elapsed(found: re.Match[str]) -> str:
    first, second, third = found.groups()
    if third:
        return f"{cardinal(first)} hours, {cardinal(second)} minutes{_seconds(third)}"
    return f"{cardinal(first)} {_minutes(second)}"


def speak_times(text: str) -> str:
    """Times, then what else is written with colons between numbers (elapsed times, ratios)."""
    if "-" in text:
        text = _HALF_RANGE.sub(r"\1 to ", _HOUR_RANGE.sub(r"\1 to \2", text))
    text = _CLOCK_HALF.sub(_say_clock_half, text)
    if ":" in text:
        text = _CLOCK.sub(_say_clock, text)
        text = _ELAPSED.sub(_say_elapsed, text)
        text = _RATIO.sub(lambda found: f"{cardinal(found[1])} to {cardinal(found[2])}", text)
    if "h" not in text:
        return text
    text = _MILITARY.sub(lambda found: f"zero {cardinal(found[1])} hundred", text)
    return _H_CLOCK.sub(lambda found: f"{cardinal(found[1])} {_minutes(found[2])}", text)
