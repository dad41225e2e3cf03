"""Measures: SI and imperial units, data, percent, temperatures, angles, heights, sizes."""

from __future__ import annotations

import re

from vivavoce.text.english.numbers import cardinal, pairs
from vivavoce.text.english.patterns import (
    FREE_NUMBER,
    LEFT,
    NUMBER,
    QUANTITY,
    describes,
    is_modifier,
    is_one,
    say_number,
    say_quantity,
)

# Symbol -> singular; the plural adds "s" to the first word unless _PLURALS says otherwise.
_UNITS = {
    # length, area, volume
    "nm": "nanometer", "μm": "micrometer", "um": "micrometer", "mm": "millimeter",
    "cm": "centimeter", "dm": "decimeter", "m": "meter", "km": "kilometer", "ft": "foot",
    "yd": "yard", "yds": "yard", "mi": "mile", "ha": "hectare", "sq ft": "square foot",
    "sqft": "square foot", "sq m": "square meter", "sq mi": "square mile",
    "sq km": "square kilometer", "sq in": "square inch", "cu ft": "cubic foot",
    "cu m": "cubic meter", "cc": "cubic centimeter", "ml": "milliliter", "mL": "milliliter",
    "cl": "centiliter", "dl": "deciliter", "l": "liter", "L": "liter", "gal": "gallon",
    "qt": "quart", "pt": "pint", "fl oz": "fluid ounce", "tbsp": "tablespoon", "tsp": "teaspoon",
    "ly": "light year", "px": "pixel", "dpi": "dot per inch", "ppi": "pixel per inch",
    # mass
    "μg": "microgram", "mcg": "microgram", "mg": "milligram", "g": "gram", "kg": "kilogram",
    "kgs": "kilogram",
    "KG": "kilogram",
    "KM": "kilometer",
    "LB": "pound",
    "LBS": "pound",
    "MPH": "mile per hour",
    "RPM": "revolution per minute", "oz": "ounce", "lb": "pound", "lbs": "pound", "st": "stone",
    # time
    "ns": "nanosecond", "μs": "microsecond", "us": "microsecond", "ms": "millisecond",
    "s": "second", "sec": "second", "secs": "second", "min": "minute", "mins": "minute",
    "h": "hour", "hr": "hour", "hrs": "hour", "wk": "week", "wks": "week", "mo": "month",
    "mos": "month",
    "yr": "year", "yrs": "year",
    # speed, rate
    "mph": "mile per hour", "kph": "kilometer per hour", "kmh": "kilometer per hour",
    "mpg": "mile per gallon", "rpm": "revolution per minute", "bpm": "beat per minute",
    "fps": "frame per second", "wpm": "word per minute", "ppm": "part per million",
    "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz",
    # data
    "KB": "kilobyte", "kB": "kilobyte", "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte",
    "PB": "petabyte", "KiB": "kibibyte", "MiB": "mebibyte", "GiB": "gibibyte", "TiB": "tebibyte",
    "kbit": "kilobit", "Mbit": "megabit", "Gbit": "gigabit", "kb": "kilobit", "Mb": "megabit",
    "Gb": "gigabit", "bps": "bit per second", "kbps": "kilobit per second",
    "Kbps": "kilobit per second", "Mbps": "megabit per second", "Gbps": "gigabit per second",
    "MBps": "megabyte per second", "GBps": "gigabyte per second",
    # energy, electricity, pressure, sound, light
    "mW": "milliwatt", "W": "watt", "kW": "kilowatt", "MW": "megawatt", "GW": "gigawatt",
    "Wh": "watt hour", "kWh": "kilowatt hour", "MWh": "megawatt hour", "GWh": "gigawatt hour",
    "mV": "millivolt", "V": "volt", "kV": "kilovolt", "mA": "milliamp", "mAh": "milliamp hour",
    "Ah": "amp hour", "J": "joule", "kJ": "kilojoule", "cal": "calorie", "kcal": "kilocalorie",
    "hp": "horsepower", "Nm": "newton meter", "Pa": "pascal", "hPa": "hectopascal",
    "kPa": "kilopascal", "MPa": "megapascal", "mbar": "millibar", "psi": "pound per square inch",
    "dB": "decibel", "Ω": "ohm", "kΩ": "kilohm", "lm": "lumen", "mol": "mole",
    # temperature, angle, proportion
    "°C": "degree Celsius", "°F": "degree Fahrenheit", "° C": "degree Celsius",
    "° F": "degree Fahrenheit", "°K": "kelvin", "°": "degree", "%": "percent", "‰": "per mille",
    "bps.": "basis point",
}  # fmt: skip
_PLURALS = {
    "foot": "feet", "inch": "inches", "hertz": "hertz", "kilohertz": "kilohertz",
    "megahertz": "megahertz", "gigahertz": "gigahertz", "percent": "percent",
    "per mille": "per mille", "horsepower": "horsepower", "stone": "stone", "century": "centuries",
}  # fmt: skip
_TAKES_LAST = ("square ", "cubic ", "fluid ", "light ", "watt ", "kilowatt ", "megawatt ",
               "gigawatt ", "milliamp ", "amp ", "newton ", "basis ")  # fmt: skip
_PER = {
    "s": "second", "sec": "second", "min": "minute", "h": "hour", "hr": "hour", "d": "day",
    "wk": "week", "mo": "month", "mth": "month", "yr": "year", "y": "year", "a": "year",
    "l": "liter", "L": "liter", "ea": "each", "pp": "person", "lb": "pound", "sqft": "square foot",
}  # fmt: skip

_SYMBOL = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
_POWER = r"(?:\^?([23])(?![\w.]))?"
_MEASURE = re.compile(
    rf"({QUANTITY})(\s?-?)({_SYMBOL}){_POWER}(?![\w]|['’]\w)(?:\s?/\s?([A-Za-z]+){_POWER})?(\.(?=\s[a-z]))?"
)
_BOUND_TO_SPACE = frozenset(
    {"m", "s", "h", "l", "g", "st", "us", "pt", "mo", "cal", "cc", "J", "V"}
)
_UNIT_TWICE = re.compile(r"(\d)(\s?([%'A-Za-z]{1,3}|°[CF]?))\s?-\s?(?=\d[\d.,]{0,12}\s?\3)")
_COUNTED = re.compile(rf"({QUANTITY})(\s?)(in)(?:\.(?=\s[a-z]|$)|(?=\s?by\s\d))")
_BY = re.compile(r"(?<=\d)(\s?(?:mm|cm|m|ft|in|px)\.?)\s?[x×]\s?(?=\d)")
_HEIGHT = re.compile(
    rf"{LEFT}(\d{{1,2}})(?:'|\s?ft\s)\s?(\d{{1,2}}(?:\.\d+)?)(?:\"|''|\s?in\b|(?!\w))"
)
_FEET = re.compile(rf"({FREE_NUMBER})'(?![\w'])")
_QUOTE = re.compile(rf"(?:({FREE_NUMBER}))?\"")
_SIZE = re.compile(rf"({FREE_NUMBER})(\s?)([xX×])\2(?!10\^)(?={NUMBER}(\s=)?)")
_TIMES = re.compile(rf"({FREE_NUMBER})[xX×](?!\w)")
_SIZE_END = re.compile(rf"(?<=\bby ){NUMBER}(?![\w.,]|\s?x)")
_ARC = re.compile(
    rf"{LEFT}(-)?(\d{{1,3}}(?:\.\d+)?)\s?°(?:\s?(\d{{1,2}}(?:\.\d+)?)')?(?:\s?(\d{{1,2}}(?:\.\d+)?)(?:\"|''))?\s?([NSEW])\b"
)
_MINUTES_OF_ARC = re.compile(
    rf"{LEFT}(\d{{1,3}})°\s?(\d{{1,2}})'(?:\s?(\d{{1,2}}(?:\.\d+)?)(?:\"|''))?"
)
_SCALED = re.compile(rf"({FREE_NUMBER})\s?(mn|bn|tn)\b|({FREE_NUMBER})([MB])(?![\w/])")
_SCALE_NAMES = {"M": "million", "mn": "million", "B": "billion", "bn": "billion", "tn": "trillion"}
_COMPASS = {"N": "north", "S": "south", "E": "east", "W": "west"}


def plural(unit: str) -> str:
    """``"mile per hour"`` -> "miles per hour"; ``"square foot"`` -> "square feet"."""
    if unit in _PLURALS:
        return _PLURALS[unit]
    head, space, rest = unit.partition(" ")
    if unit.startswith(_TAKES_LAST):
        return f"{head} {plural(rest)}"
    return (_PLURALS.get(head) or f"{head}s") + space + rest


def per_words(unit: str) -> str:
    """What follows a slash after an amount: ``"mo"`` -> "per month"; ``"kg"`` -> "per kilogram"."""
    word = _PER.get(unit) or _UNITS.get(unit, unit)
    return word if word == "each" else f"per {word}"


def say_rate(unit: str, base: str) -> str | None:
    """Units without a number: ``("km", "h")`` -> "kilometers per hour"; None for other words."""
    if unit not in _UNITS or (base not in _PER and base not in _UNITS):
        return None
    return f"{plural(_UNITS[unit])} {per_words(base)}"


def _powered(unit: str, power: str | None) -> str:
    return f"{'square' if power == '2' else 'cubic'} {unit}" if power else unit


def _say_measure(found: re.Match[str]) -> str:
    amount, gap, symbol, power, per, per_power, dot = found.groups()
    if _reads_otherwise(found, gap, symbol):
        return found[0]
    unit = _powered(_UNITS[symbol], power)
    end = found.end() - len(dot or "")
    single = is_one(amount) or "-" in gap or is_modifier(found.string, found.start(), end)
    words = f"{say_quantity(amount)} {unit if single else plural(unit)}"
    if not per:
        return words
    base = per_words(per)
    return (
        f"{words} per {_powered(base[4:], per_power)}"
        if base.startswith("per ")
        else f"{words} {base}"
    )


def _reads_otherwise(found: re.Match[str], gap: str, symbol: str) -> bool:
    """Short symbols that are words or endings of their own: "5 us", "1st", "100s"."""
    if symbol == "st":
        return gap == "" or found[1][-1] == "1"
    if symbol in {"us", "cal", "mo"}:
        return gap != ""
    if symbol == "s" and "-" in gap:
        return True
    return "-" in gap and len(symbol) == 1 and symbol not in "%°"


def _say_height(found: re.Match[str]) -> str:
    if int(found[1]) > 9 and float(found[2]) >= 12:
        return found[0]
    return f"{cardinal(found[1])} foot {say_number(found[2])}"


def _say_feet(found: re.Match[str]) -> str:
    single = found[1] == "1" or is_modifier(found.string, found.start(), found.end())
    return f"{say_number(found[1])} {'foot' if single else 'feet'}"


def _speak_inches(text: str) -> str:
    """A double quote after a number means inches, unless it closes a quotation."""
    inside = False

    def say(found: re.Match[str]) -> str:
        nonlocal inside
        if found[1] is None or inside:
            inside = not inside
            return found[0]
        single = found[1] == "1" or describes(found.string, found.end())
        return f"{say_number(found[1])} {'inch' if single else 'inches'}"

    return _QUOTE.sub(say, text)


def _side(text: str) -> str:
    return pairs(text) if text.isdecimal() and len(text) in {3, 4} else say_number(text)


def _say_size(found: re.Match[str]) -> str:
    if found[2] and found[3] == "×":
        return found[0]
    return f"{_side(found[1])} {'times' if found[4] else 'by'} "


def _say_arc(found: re.Match[str]) -> str:
    minus, degrees, minutes, seconds, side = found.groups()
    words = (
        f"{'minus ' if minus else ''}{say_number(degrees)} degree{'' if degrees == '1' else 's'}"
    )
    if minutes:
        words += f", {say_number(minutes)} minutes"
    if seconds:
        words += f", {say_number(seconds)} seconds"
    return f"{words} {_COMPASS[side]}"


def _say_arc_minutes(found: re.Match[str]) -> str:
    words = f"{cardinal(found[1])} degrees, {cardinal(found[2])} minutes"
    return words + (f", {say_number(found[3])} seconds" if found[3] else "")


def _say_scaled(found: re.Match[str]) -> str:
    amount, scale = (found[1], found[2]) if found[1] else (found[3], found[4])
    if scale == "B" and "." not in amount and not describes(found.string, found.end()):
        return found[0]  # "seat 12B"
    return f"{say_number(amount)} {_SCALE_NAMES[scale]}"


def join_ranges(text: str) -> str:
    """ "10%-15%" -> "10% to 15%": a unit written twice."""
    return _UNIT_TWICE.sub(r"\1\2 to ", text)


def speak_sizes(text: str) -> str:
    """ "5'10\\"" -> "five foot ten"; "2x4" -> "two by four"; "2x" -> "two times"."""
    if "°" in text:
        text = _MINUTES_OF_ARC.sub(_say_arc_minutes, _ARC.sub(_say_arc, text))
    if "'" in text or "ft" in text:
        text = _FEET.sub(_say_feet, _HEIGHT.sub(_say_height, text))
    if '"' in text:
        text = _speak_inches(text)
    text = _BY.sub(r"\1 by ", text)
    if "in" in text:
        text = _COUNTED.sub(
            lambda found: f"{say_quantity(found[1])} {'inch' if is_one(found[1]) else 'inches'}",
            text,
        )
    text = _SIZE.sub(_say_size, text)
    if " by " in text:
        text = _SIZE_END.sub(lambda found: _side(found[0]), text)
    return _TIMES.sub(
        lambda found: f"{say_number(found[1])} time{'' if found[1] == '1' else 's'}", text
    )


def speak_units(text: str) -> str:
    """ "5 kg" -> "five kilograms"; "60 mi/h" -> "sixty miles per hour"."""
    return _SCALED.sub(_say_scaled, _MEASURE.sub(_say_measure, text))
