"""Numbers into words, against an independent implementation where it is installed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.text.english.numbers import cardinal, ordinal

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
