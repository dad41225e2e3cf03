"""Long clauses in parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.engines.neutts.fitting import Spans, parts_that_fit
from vivavoce.types import Span


def text_of(spans: Spans) -> str:
    return "".join(span.text for span in spans)


def fit(text: str, most: int) -> list[str]:
    return [text_of(p) for p in parts_that_fit((Span(text),), lambda s: len(text_of(s)) <= most)]


def test_what_fits_stays_whole() -> None:
    assert fit("One, two.", 20) == ["One, two."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("First one. Then two, and three.", ["First one. ", "Then two, and three."]),
        ("First one, then two and three.", ["First one, ", "then two and three."]),
        ("First one then two and three.", ["First one then ", "two and three."]),
    ],
)
def test_it_is_cut_where_it_hurts_least(text: str, expected: list[str]) -> None:
    assert fit(text, 25) == expected


def test_a_word_is_never_cut() -> None:
    assert fit("A verylongwordindeed ends", 5) == ["A ", "verylongwordindeed ", "ends"]


def test_a_given_pronunciation_is_never_cut() -> None:
    spans = (Span("I love "), Span("New York", ipa="nuː jˈɔːɹk"), Span(" very much."))
    parts = parts_that_fit(spans, lambda s: len(text_of(s)) <= 12)
    assert [span for part in parts for span in part if span.ipa] == [spans[1]]
    assert "".join(map(text_of, parts)) == text_of(spans)


@given(st.text("ab ,.…\n", max_size=200), st.integers(1, 50))
def test_nothing_is_lost(text: str, most: int) -> None:
    assert "".join(fit(text, most)) == text
