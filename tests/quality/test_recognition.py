"""The yardstick itself: word errors are counted rightly."""

from __future__ import annotations

import pytest

from quality.recognition import distance, error_rate, normalized, score
from quality.sentences import SENTENCES


@pytest.mark.parametrize(
    ("heard", "errors"),
    [
        ("one two three", 0),
        ("one three", 1),
        ("one two two three", 1),
        ("one too three", 1),
        ("", 3),
        ("four five six seven", 4),
    ],
)
def test_distance_counts_insertions_deletions_and_substitutions(heard: str, errors: int) -> None:
    assert distance(["one", "two", "three"], heard.split()) == errors


@pytest.mark.parametrize(
    ("written", "heard"),
    [
        ("at 4:30 p.m.", "At 4.30 P.M."),
        ("$49.99", "forty nine dollars and ninety nine cents"),
        ("12.5%", "twelve point five percent"),
        ("Dr. Smith's", "doctor Smith's"),
    ],
)
def test_other_spellings_of_the_same_words_are_no_errors(written: str, heard: str) -> None:
    assert normalized(written) == normalized(heard)


def test_a_decimal_number_is_not_a_time() -> None:
    assert normalized("7.25 points") != normalized("7:25 points")


def test_the_rate_is_over_all_words_together() -> None:
    long = score("long", "a b c d e f g h i", "a b c d e f g h i")
    assert error_rate([long, score("short", "x", "y")]) == pytest.approx(0.1)


def test_there_are_enough_sentences_and_their_names_are_unique() -> None:
    assert len(SENTENCES) >= 40
    assert len({one.name for one in SENTENCES}) == len(SENTENCES)
