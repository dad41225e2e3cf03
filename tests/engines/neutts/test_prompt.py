"""The prompt, the texts in it, and a text that is cut until it fits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.neutts.stubs import StubVocabulary
from vivavoce.engines.neutts.family import NANO, TWO_E
from vivavoce.engines.neutts.phonemes import phonemes
from vivavoce.engines.neutts.prompt import (
    Reference,
    Spans,
    clean,
    lay_out,
    parts_that_fit,
    plain,
    spoken_phonemes,
    with_end,
    wordless,
)
from vivavoce.errors import ModelFileError
from vivavoce.types import Span

VOCABULARY = StubVocabulary(NANO)
REFERENCE = Reference("ab.", np.array([7, 8], np.int32))


def ids(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def test_the_text_comes_before_the_codes() -> None:
    prompt = lay_out(VOCABULARY, REFERENCE, "cd.")
    codes = VOCABULARY.speech_ids([7, 8])
    assert prompt.ids == (1, 2, *ids("ab. cd."), 3, 4, 5, *codes)
    assert prompt.shared_prefix == 2 + 3


def test_without_a_reference_only_the_header_is_shared() -> None:
    prompt = lay_out(VOCABULARY, Reference(), "cd.")
    assert prompt.ids == (1, 2, *ids("cd."), 3, 4, 5)
    assert prompt.shared_prefix == 2


def test_an_emotion_takes_the_place_of_the_space() -> None:
    vocabulary = StubVocabulary(TWO_E)
    happy = vocabulary.token_id("<|HAPPY|>")
    prompt = lay_out(vocabulary, REFERENCE, "cd.", "<|HAPPY|>")
    assert prompt.ids[2:9] == (*ids("ab."), happy, *ids("cd."))
    with pytest.raises(ModelFileError):
        lay_out(vocabulary, REFERENCE, "cd.", "<|BORED|>")


def test_a_prefix_that_its_text_merges_with_is_not_shared() -> None:
    class Merging(StubVocabulary):
        def tokenize(self, text: str) -> tuple[int, ...]:
            return (99, *super().tokenize(text[5:])) if text.startswith("ab. c") else ids(text)

    assert lay_out(Merging(), REFERENCE, "cd.").shared_prefix == 2


pytest.importorskip("piper", reason="the extra 'neutts' is not installed")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello", "Hello."),
        ("Hello.", "Hello."),
        ("Hello?!", "Hello?!"),
        ("Hello,", "Hello,"),
        ("Hello:", "Hello,"),
        ("Hello -", "Hello,"),
        ("Hello…", "Hello."),
        ('He said "go."', 'He said "go."'),
        ('He said "go"', 'He said "go".'),
        ("(yes)", "(yes)."),
        ("—", "—"),
    ],
)
def test_a_text_ends_in_a_mark_the_models_know(text: str, expected: str) -> None:
    assert with_end(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The U.S.A. won", "The USA won."),
        ("The U.S.A.", "The USA."),
        ("U.S. law, e.g. this one.", "US law, e.g. this one."),
        ("Mr. Smith left.", "Mr. Smith left."),
        ("I am. You are.", "I am. You are."),
        ("many\n  spaces ", "many spaces."),
        ("  ", ""),
    ],
)
def test_dotted_acronyms_and_spaces(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a <|SPEECH_GENERATION_END|> b",
        "a <|speech_17|> b",
        "a ＜｜HAPPY｜＞ b",
        "a <<||x|>|TEXT_PROMPT_END|> b",
    ],
)
def test_control_tokens_are_taken_out(text: str) -> None:
    for cleaned in (clean(text), plain(text)):
        assert "<|" not in cleaned and "|>" not in cleaned


def test_2e_reads_folded_text_with_plain_quotes() -> None:
    assert plain("“Ｉ’m ﬁne”") == '"I\'m fine".'


def test_given_pronunciations_are_spliced_in() -> None:
    spans = (Span("Say "), Span("tomato", ipa="təmˈɑːtoʊ"), Span(", please."))
    said = phonemes("Say", "en")
    assert spoken_phonemes(spans, "en") == f"{said} təmˈɑːtoʊ, {phonemes('please.', 'en')}"
    assert spoken_phonemes((Span("x", ipa="ˈɛks"),), "en") == "ˈɛks."
    assert "<|" not in spoken_phonemes((Span("x", ipa="a<|speech_1|>b"),), "en")


@pytest.mark.parametrize("text", ["…", "?!", ""])
def test_marks_are_no_words(text: str) -> None:
    assert wordless((Span(text),))


@pytest.mark.parametrize("text", ["a", "5", "€"])
def test_words(text: str) -> None:
    assert not wordless((Span(text),))


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
