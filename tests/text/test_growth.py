"""Texts that may grow too long are known by their looks; ordinary ones are never suspected."""

from __future__ import annotations

import pytest

from vivavoce.text.frontend import TextOptions, clauses
from vivavoce.text.growth import may_exceed, most_spoken_chars
from vivavoce.text.lexicon import Lexicon

LIMIT = 80_000
ORDINARY = (
    "On May 3rd, 2026 Dr. Lee paid $5.20 at 4:30 pm, then called +1 555-0199 and went home. "
    "Nothing else was said about it, and nobody asked. "
)
UNITS = ("9", "777 ", "7 8 ", "%", "½ ", "5°C ", "© ", "$5 ", "77 ", "12:30 ", "1/2 ")


def spoken_chars(text: str, lexicon: Lexicon | None = None, *, ssml: bool = False) -> int:
    options = TextOptions("en", ssml=ssml, lexicon=lexicon or Lexicon())
    return sum(len(clause.text) for clause in clauses(text, options))


@pytest.mark.parametrize("length", [100, 5_000, 20_000])
def test_ordinary_texts_may_not(length: int) -> None:
    text = (ORDINARY * 200)[:length]
    words = Lexicon({"nginx": "engine x", "SQL": "sequel", "AI": "A I"})
    assert not may_exceed(text, LIMIT)
    assert not may_exceed(text, LIMIT, lexicon_growth=words.growth)
    assert not may_exceed("x" * length, LIMIT)


@pytest.mark.parametrize("unit", UNITS)
def test_what_grows_beyond_the_limit_is_suspected(unit: str) -> None:
    text = unit * (20_000 // len(unit))
    grown = spoken_chars(text)
    assert may_exceed(text, grown - 1)
    assert grown <= most_spoken_chars(text)


@pytest.mark.parametrize("spoken", ["b" * 500, "7" * 200])
def test_what_a_lexicon_makes_of_it_is_suspected(spoken: str) -> None:
    grows = Lexicon({"a": spoken})
    text = "a word and a word " * 100
    grown = spoken_chars(text, grows)
    assert grown > LIMIT
    for lexicon in (grows, Lexicon({"x": "y"}).merged(grows)):
        assert may_exceed(text, LIMIT, lexicon_growth=lexicon.growth)


@pytest.mark.parametrize("inner", ["a1" * 9_000, "!" * 5_000, "5" * 18_000, "w" * 18_000])
def test_what_is_said_character_by_character_is_suspected(inner: str) -> None:
    text = f'<say-as interpret-as="characters">{inner}</say-as>'
    assert may_exceed(text, spoken_chars(text, ssml=True) - 1, ssml=True)


@pytest.mark.parametrize("text", ["a 5% b", "one, two; three!", "\x7f_#\x00"])
def test_signs_are_counted_alike_beside_any_letters(text: str) -> None:
    assert most_spoken_chars(text + "é") == most_spoken_chars(text) + 1
