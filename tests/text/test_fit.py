"""What has grown is cut again; what fits is left alone, and nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.text.fit import MAX_SPOKEN_CHARS, Part, fitted

WORDS = "some words of a text that goes on and on, and then on again. " * 40


def runs(*parts: Part) -> list[list[Part]]:
    return list(fitted(parts))


def texts(found: Sequence[Sequence[Part]]) -> list[str]:
    return ["".join(part.text for part in run) for run in found]


def size(run: Sequence[Part]) -> int:
    return sum(part.size for part in run)


def test_what_fits_stays_as_it_is() -> None:
    parts = [Part("a" * 200), Part("b", "c" * 99), Part(" ")]
    assert sum(part.size for part in parts) == MAX_SPOKEN_CHARS
    assert runs(*parts) == [parts]
    assert runs() == [[]]


def test_one_more_is_cut_into_even_shares_at_a_mark() -> None:
    found = texts(runs(Part(WORDS[:301])))
    assert len(found) == 2
    assert found[0].endswith((",", "."))
    assert all(90 < len(text) < 220 for text in found)
    assert " ".join(found) == WORDS[:301]


def test_a_sentence_end_is_preferred_and_then_a_word_is_kept_whole() -> None:
    assert texts(runs(Part("word " * 30 + "end. " + "word, " * 30)))[0].endswith("end.")
    assert all(text.split()[-1] == "word" for text in texts(runs(Part("word " * 200))))


def test_a_word_longer_than_a_clause_is_cut_but_no_character_from_its_marks() -> None:
    found = texts(runs(Part("e\u0301" * 400)))
    assert max(map(len, found)) <= MAX_SPOKEN_CHARS
    assert "".join(found) == "e\u0301" * 400
    assert not any(text.startswith("\u0301") for text in found)


def test_cjk_text_is_cut_to_a_third() -> None:
    found = texts(runs(Part("話" * 301)))
    assert max(map(len, found)) <= MAX_SPOKEN_CHARS // 3
    assert "".join(found) == "話" * 301


def test_a_pronunciation_counts_and_stays_whole() -> None:
    found = runs(*(Part("x", "ə" * 40) for _ in range(20)))
    assert max(map(size, found)) <= MAX_SPOKEN_CHARS
    assert [part.ipa for run in found for part in run] == ["ə" * 40] * 20


def test_a_pronunciation_longer_than_a_clause_is_cut_between_its_words() -> None:
    ipa = " ".join(["ʃɪˈvɔːn"] * 60)
    found = runs(Part("Name", ipa), Part(" and more"))
    assert max(map(size, found)) <= MAX_SPOKEN_CHARS
    pieces = [part for run in found for part in run if part.ipa]
    assert " ".join(part.ipa or "" for part in pieces) == ipa
    assert [part.text for part in pieces if part.text] == ["Name"], "said once by other engines"


def test_settled_parts_stay_settled() -> None:
    found = runs(Part("A, B, " * 100, settled=True), Part(" and the rest"))
    assert {part.settled for run in found[:-1] for part in run} == {True}
    assert found[-1][-1] == Part(" and the rest")


PARTS = st.builds(
    Part,
    st.text(alphabet="ab ,.;話é\u0301", max_size=400),
    st.none() | st.text(alphabet="əɪ ", min_size=1, max_size=500),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PARTS, max_size=8))
def test_nothing_is_lost_and_no_run_is_too_long(parts: list[Part]) -> None:
    found = runs(*parts)

    def spoken(each: Sequence[Part]) -> str:
        return "".join("".join((part.ipa or part.text).split()) for part in each)

    # A text with a pronunciation is not cut: those who bring one bound it.
    longest = max([MAX_SPOKEN_CHARS, *(len(part.text) for part in parts if part.ipa)])
    assert all(size(run) <= longest for run in found)
    assert "".join(map(spoken, found)) == spoken(parts)
    assert all(found) or found == [[]]


@pytest.mark.parametrize("count", [1_000, 100_000])
def test_time_is_in_proportion_to_what_is_asked_for(count: int) -> None:
    first = next(iter(fitted([Part("word " * count)])))
    assert size(first) <= MAX_SPOKEN_CHARS
