"""Written text into spoken words: numbers, money, dates, times, units, abbreviations and more."""

from __future__ import annotations

from vivavoce.text.normalise.rules import clean, speak_english

__all__ = ["normalise"]


def normalise(text: str, language: str | None = "en") -> str:
    """What a reader would say for one sentence or clause of ``text``.

    English (``None`` or any tag that starts with "en") is written out in words; no ASCII digit
    remains. Other languages keep their text, without emoji and markup. Never raises; "" means
    that nothing in it can be spoken. Takes time in proportion to the length of the text.
    """
    if language is None or language.lower().startswith("en"):
        return speak_english(text)
    return clean(text)
