"""Written text into spoken words: numbers, money, dates, times, units, abbreviations and more."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

__all__ = ["normalise"]


@cache
def _rules() -> tuple[Callable[[str], str], Callable[[str], str]]:
    """The English rules and the neutral ones; their patterns are compiled at the first call."""
    from vivavoce.text.english.rules import clean, speak_english

    return speak_english, clean


def normalize(text: str, language: str | None = "en") -> str:
    """What a reader would say for one sentence or clause of ``text``.

    English (``None`` or any tag that starts with "en") is written out in words; no ASCII digit
    remains. Other languages keep their text, without emoji and markup. Never raises; "" means
    that nothing in it can be spoken. Takes time in proportion to the length of the text.
    """
    english, neutral = _rules()
    if language is None or language.lower().startswith("en"):
        return english(text)
    return neutral(text)
