"""Clauses in groups: what is gathered, what ends a group, and how much fits."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.errors import InputTooLong
from vivavoce.text import TextOptions, clauses, expected_duration_s, grouped
from vivavoce.text.fit import MAX_SPOKEN_CHARS, Part
from vivavoce.text.group import GROWTH, SHORT_S
from vivavoce.types import Clause, Span

GROUP_S = 20.0
SENTENCES = (
    "Thank you for calling the clinic. Your appointment has been moved to Tuesday. Doctor Lee will"
    " see you at half past nine. Please bring the letter with you. The car park is free. Would you"
    " like a message about it? "
)
WORDS = "a word and another " * 14 + "end."


def clause(text: str, **more: object) -> Clause:
    return Clause((Span(text),), text, **more)  # type: ignore[arg-type]


def groups(*given: Clause, longest_s: float = GROUP_S) -> list[str]:
    return [each.text for each in grouped(iter(given), longest_s)]


def read(text: str, **options: object) -> list[Clause]:
    found = clauses(text, TextOptions(**options))  # type: ignore[arg-type]
    return list(grouped(found, GROUP_S))


def size(found: Clause) -> int:
    return sum(Part(span.text, span.ipa).size for span in found.spans)


def test_the_first_clause_is_alone_and_groups_grow() -> None:
    found = read(SENTENCES * 4)
    assert found[0].text == "Thank you for calling the clinic."
    assert " ".join(each.text for each in found) == (SENTENCES * 4).strip()
    assert len(found) < len(list(clauses(SENTENCES * 4, TextOptions()))) / 2.5
    lengths_s = [expected_duration_s(each.text) for each in found]
    for before_s, after_s in pairwise(lengths_s):
        assert after_s <= max(SHORT_S, GROWTH * before_s) + 1.0


def test_nothing_is_gathered_for_an_engine_that_does_not_like_it() -> None:
    one_by_one = list(clauses(SENTENCES, TextOptions()))
    assert list(grouped(iter(one_by_one), 0.0)) == one_by_one
    assert len(one_by_one) == 6


def test_the_first_clause_is_there_before_the_second_is_made() -> None:
    def lazily() -> Iterator[Clause]:
        yield clause("One.")
        raise AssertionError("nobody asked for it")

    assert next(grouped(lazily(), GROUP_S)).text == "One."


def test_what_is_gathered_keeps_its_source_its_end_and_its_pause() -> None:
    ends = clause("And the last.", end="paragraph", pause_ms=700.0)
    given = [clause("A first sentence that is long enough."), clause("Then one."), ends]
    _, found = grouped(iter(given), GROUP_S)
    assert found == Clause(
        (Span("Then one. And the last."),), "Then one. And the last.", "paragraph", 700.0
    )


@pytest.mark.parametrize(
    "ends",
    [
        clause("So it ends.", end="paragraph"),
        clause("So it ends.", pause_ms=0.0),
        clause("A heading"),
        Clause((), "", "sentence", 300.0),
    ],
    ids=["paragraph", "pause", "no mark", "silence"],
)
def test_what_ends_a_group(ends: Clause) -> None:
    first = clause("A first sentence that is long enough.")
    found = groups(first, ends, clause("Another one."))
    assert found == [first.text, ends.text, "Another one."]


def test_a_silent_clause_stays_by_itself() -> None:
    silence = Clause((), "", "clause", 300.0)
    found = list(grouped(iter([clause("A first sentence."), clause("Two."), silence]), GROUP_S))
    assert found[2] is silence


def test_a_mark_inside_of_quotes_ends_a_sentence() -> None:
    found = groups(clause("A first one to begin with."), clause('He said: "No."'), clause("Well."))
    assert found[1] == 'He said: "No." Well.'


def test_parts_of_a_sentence_go_on_without_a_mark() -> None:
    half = clause("this is its first half", end="clause")
    assert groups(clause("A first one to begin with."), half, clause("and its second."))[1] == (
        "this is its first half and its second."
    )


def test_no_space_where_the_script_has_none() -> None:
    found = groups(clause("今天天气很好我们去公园。"), clause("你好。"), clause("再见。"))
    assert found[1] == "你好。再见。"


def test_pronunciations_stay_with_their_words() -> None:
    said = [
        Clause((Span("Ask "), Span("Bo", "boʊ")), "Ask Bo", "clause"),
        Clause((Span("Jo", "dʒoʊ"), Span(" knows.")), "Jo knows."),
        Clause((Span("Fine."),), "Fine."),
    ]
    _, found = grouped(iter([clause("A first sentence that is long enough."), *said]), GROUP_S)
    assert found.text == "Ask Bo Jo knows. Fine."
    assert [span for span in found.spans if span.ipa] == [Span("Bo", "boʊ"), Span("Jo", "dʒoʊ")]


def test_a_failure_waits_for_the_group_before_it() -> None:
    def fails() -> Iterator[Clause]:
        yield clause("A first sentence that is long enough.")
        yield clause("A second one.")
        raise InputTooLong(9, 8, spoken=True)

    found = grouped(fails(), GROUP_S)
    assert [next(found).text, next(found).text][1] == "A second one."
    with pytest.raises(InputTooLong):
        next(found)


@given(st.lists(st.sampled_from(["Yes.", "A word, or two.", SENTENCES, WORDS]), min_size=1))
def test_nothing_is_lost_and_nothing_grows_too_long(pieces: list[str]) -> None:
    text = " ".join(pieces)
    found = read(text, normalize=False)
    assert "".join("".join(each.text for each in found).split()) == "".join(text.split())
    assert all(size(each) <= MAX_SPOKEN_CHARS for each in found)
    alone_s = max(expected_duration_s(each.text) for each in clauses(text, TextOptions()))
    for each in found:
        assert expected_duration_s(each.text) <= max(GROUP_S + 5.0, alone_s)
