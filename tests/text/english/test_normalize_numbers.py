"""Numbers into words, by hand."""

from __future__ import annotations

import pytest

from vivavoce.text.english.numbers import (
    cardinal,
    decimal,
    digits,
    fraction,
    mixed,
    pairs,
    plural_of,
    year,
)
from vivavoce.text.english.roman import roman_value


def test_negative_and_huge_integers() -> None:
    assert cardinal(-12) == "minus twelve"
    assert cardinal(10**63) == "one vigintillion"
    assert cardinal(10**66) == digits("1" + "0" * 66)
    assert len(cardinal(10**9000).split()) == 9001


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5", "five"),
        ("05", "zero five"),
        ("42", "forty-two"),
        ("100", "one hundred"),
        ("123", "one twenty-three"),
        ("305", "three oh five"),
        ("1000", "one thousand"),
        ("1500", "fifteen hundred"),
        ("2490", "twenty-four ninety"),
        ("1205", "twelve oh five"),
        ("12345", "one two three four five"),
    ],
)
def test_pairs(text: str, words: str) -> None:
    assert pairs(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1066", "ten sixty-six"),
        ("1900", "nineteen hundred"),
        ("1905", "nineteen oh five"),
        ("1999", "nineteen ninety-nine"),
        ("2000", "two thousand"),
        ("2009", "two thousand nine"),
        ("2026", "twenty twenty-six"),
        ("79", "seventy-nine"),
        ("476", "four hundred seventy-six"),
        ("12026", "twelve thousand twenty-six"),
    ],
)
def test_years(text: str, words: str) -> None:
    assert year(text) == words


def test_decimals_and_fractions() -> None:
    assert decimal("3.14") == "three point one four"
    assert decimal(".5") == "point five"
    assert decimal("7.") == "seven"
    assert fraction("1", "2") == "one half"
    assert fraction("3", "4") == "three quarters"
    assert fraction("2", "21") == "two twenty-firsts"
    assert fraction("7", "3") == "seven over three"
    assert fraction("1", "0") == "one over zero"
    assert mixed("2", "1", "2") == "two and a half"
    assert mixed("1", "2", "3") == "one and two thirds"


def test_plurals_of_numbers() -> None:
    assert plural_of("nineteen ninety") == "nineteen nineties"
    assert plural_of("nineteen hundred") == "nineteen hundreds"
    assert plural_of("six") == "sixes"


@pytest.mark.parametrize(
    ("numeral", "value"), [("I", 1), ("IV", 4), ("XIV", 14), ("XLIX", 49), ("MCMXCIX", 1999)]
)
def test_roman_numerals(numeral: str, value: int) -> None:
    assert roman_value(numeral) == value
