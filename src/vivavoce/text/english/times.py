"""Times of day and durations: "4:30 pm", "16:45", "12:00", "10:05:30", "9am-5pm"."""

from __future__ import annotations

import re

from vivavoce.text.english.numbers import cardinal, digits
from vivavoce.text.english.written import LEFT

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
