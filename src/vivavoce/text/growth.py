"""How long a text can become when it is spoken, told without speaking it."""

from __future__ import annotations

import string

DENSE = 12
"""A digit or sign becomes a word or two: "7" in 777, "%", "½", "°" in 5 °C."""

UNSPOKEN = ".,;:!?'\"()"
"""Signs that are mostly not spoken, but in <say-as>."""

SSML_DENSE = 18
"""<say-as> names every character: "!" is "exclamation mark"."""

SSML_LETTER = 2
"""Spelled letters have a space between them."""


def most_spoken_chars(text: str) -> int:
    """About what a normalized text has at most: digits and signs are counted as words."""
    dense = _dense(text, UNSPOKEN)
    return len(text) - dense + dense * DENSE


def may_exceed(text: str, limit: int, *, lexicon_growth: float = 1.0, ssml: bool = False) -> bool:
    """Whether a text may have more than ``limit`` characters when it is spoken.

    Ordinary texts do not grow to four times their length. False is no promise (1e9 is thirty
    characters long when it is spoken); it means that a text need not be spoken out whole to be let
    in. Takes a moment: nothing is normalized.
    """
    dense_growth = SSML_DENSE if ssml else DENSE
    plain_growth = max(lexicon_growth, SSML_LETTER if ssml else 1)
    if len(text) * max(dense_growth, plain_growth) <= limit:
        return False
    dense = _dense(text, "" if ssml else UNSPOKEN)
    return (len(text) - dense) * plain_growth + dense * max(dense_growth, lexicon_growth) > limit


def _dense(text: str, but: str) -> int:
    """Characters that are neither letters nor spaces nor ``but`` these."""
    if text.isascii():  # the same, and many times as quick
        light = (string.ascii_letters + string.whitespace + but).encode()
        return len(text.encode().translate(None, light))
    return sum(
        not (character.isalpha() or character.isspace() or character in but) for character in text
    )
