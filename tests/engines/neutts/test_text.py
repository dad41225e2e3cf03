"""What the models are given to read."""

from __future__ import annotations

import pytest

pytest.importorskip("piper", reason="the extra 'neutts' is not installed")

from vivavoce.engines.neutts.phonemes import phonemes
from vivavoce.engines.neutts.text import clean, plain, spoken_phonemes, with_end, wordless
from vivavoce.types import Span


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
