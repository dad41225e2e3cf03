"""How long a text takes to say, and how long it can take at most.

Syllable rates are those of F. Pellegrino, C. Coupé and E. Marsico, "A Cross-Language Perspective
on Speech Information Rate", Language 87 (2011): read speech without pauses has 6.2 syllables a
second in English, 5.2 in Mandarin and 7.8 in Japanese and Spanish. Synthetic voices read more
slowly, so 4.8 is used for all, and pauses are added. The upper bound is a guard against an engine
that does not stop; it must never cut a slow but honest reading.
"""

from __future__ import annotations

import re
import unicodedata

from vivavoce.text.boundaries import CJK, CJK_CHARACTER, END_CLASS, ENDS, UNSPACED_MARKS

SYLLABLES_PER_S = 4.8
CLAUSE_PAUSE_S = 0.25
SENTENCE_PAUSE_S = 0.5
EDGE_S = 0.2
"""Silence and articulation around any utterance."""

UPPER_FACTOR = 2.5
UPPER_EXTRA_S = 2.0
UPPER_NAMED_LETTER_S = 2.0
"""A letter that a voice cannot read is named, at worst as "Ethiopic letter one two zero eight"."""

_WORD = re.compile(rf"[^\W\d_{CJK}]+")
_LATIN_NUCLEUS = re.compile("[aeiouyà-æè-ïò-öø-ýÿāēīōūœ]+", re.IGNORECASE)
_SENTENCE_PAUSE = re.compile(f"[{END_CLASS}\n]+(?=\\s|$)|[。！？]+")
_CLAUSE_PAUSE = re.compile(f"[,;:—–،؛{UNSPACED_MARKS}]+")
_DIGIT = re.compile(r"\d")
_OTHER = re.compile(r"[^\w\s.,;:!?'\"()-]")
_SPOKEN_SYMBOLS = frozenset(("Sc", "Sm", "So"))
_DIGIT_SYLLABLES = 1.5
_SYMBOL_SYLLABLES = 2.0
_SPELLED_LETTER_SYLLABLES = 1.1
_NOT_LATIN = re.compile("[^\\W\\d_a-zA-Z\u00aa-\u024f\u1e00-\u1eff]")
_OTHER_SCRIPTS = frozenset((
    "am", "ar", "be", "bg", "bn", "el", "fa", "gu", "he", "hi", "hy",
    "ja", "ka", "kk", "km", "kn", "ko", "lo", "mk", "ml", "mr", "my",
    "ne", "pa", "ru", "si", "sr", "ta", "te", "th", "uk", "ur", "zh",
))  # fmt: skip
_LETTERS_PER_SYLLABLE = 2.0
"""For alphabets whose vowels are not counted here (Cyrillic, Greek, Arabic, Indic, Thai, …)."""


def expected_duration_s(text: str, speed: float = 1.0) -> float:
    """Seconds that an average voice takes for a normalized ``text`` at ``speed``; 0 for nothing.

    ``speed`` must be above 0; 2.0 halves the result.
    """
    syllables = _syllables(text)
    if syllables == 0:
        return 0.0
    sentences = len(_SENTENCE_PAUSE.findall(text.rstrip(f" \n{ENDS}")))
    pauses_s = sentences * SENTENCE_PAUSE_S + len(_CLAUSE_PAUSE.findall(text)) * CLAUSE_PAUSE_S
    return (EDGE_S + syllables / SYLLABLES_PER_S + pauses_s) / speed


def max_duration_s(text: str, speed: float = 1.0, language: str | None = None) -> float:
    """Seconds beyond which the output for a normalized ``text`` is a runaway.

    ``language`` (ISO 639-1) is the only one that the voice speaks; None where it speaks many.
    """
    named = 0 if language is None or language in _OTHER_SCRIPTS else len(_NOT_LATIN.findall(text))
    extra_s = UPPER_EXTRA_S + named * UPPER_NAMED_LETTER_S
    return UPPER_FACTOR * expected_duration_s(text, speed) + extra_s / speed


def _syllables(text: str) -> float:
    cjk = len(CJK_CHARACTER.findall(text))
    words = sum(_word_syllables(found[0]) for found in _WORD.finditer(text))
    digits = len(_DIGIT.findall(text))
    symbols = sum(unicodedata.category(mark) in _SPOKEN_SYMBOLS for mark in _OTHER.findall(text))
    return cjk + words + digits * _DIGIT_SYLLABLES + symbols * _SYMBOL_SYLLABLES


def _word_syllables(word: str) -> float:
    """Vowel groups for Latin script; letters where a word is spelled out."""
    if word[0] > "ɏ":
        return max(1.0, len(word) / _LETTERS_PER_SYLLABLE)
    nuclei = len(_LATIN_NUCLEUS.findall(word))
    if nuclei == 0 or (word.isupper() and len(word) <= 5):
        return len(word) * _SPELLED_LETTER_SYLLABLES
    # Vowels in hiatus and silent letters about cancel out; a flood of one vowel must not.
    return max(nuclei, len(word) / 6)
