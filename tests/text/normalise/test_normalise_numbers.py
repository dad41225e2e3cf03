"""Numbers into words, against an independent implementation and by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.text.normalise.numbers import (
    cardinal,
    decimal,
    digits,
    fraction,
    mixed,
    ordinal,
    pairs,
    plural_of,
    year,
)
from vivavoce.text.normalise.roman import roman_value

num2words = pytest.importorskip("num2words").num2words


def _american(words: str) -> str:
    return words.replace(" and ", " ").replace(",", "")


@given(st.integers(min_value=0, max_value=10**30))
def test_cardinals_agree_with_another_implementation(value: int) -> None:
    assert cardinal(value) == _american(num2words(value))


@given(st.integers(min_value=0, max_value=10**12))
def test_ordinals_agree_with_another_implementation(value: int) -> None:
    assert ordinal(value) == _american(num2words(value, to="ordinal"))


@given(st.integers(min_value=0, max_value=10**30), st.integers(min_value=0, max_value=5))
def test_text_and_integers_read_the_same(value: int, zeros: int) -> None:
    assert cardinal("0" * zeros + str(value)) == cardinal(value)


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
