"""Text to phonemes as Air and Nano were trained on them: espeak-ng, stress and punctuation kept.

The training data was made with the ``phonemizer`` package's conventions: the text is cut at
punctuation marks, each stretch is phonemised by itself, the marks go back between them, and
whitespace is collapsed. Languages that espeak-ng switches to inside a stretch are not marked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from vivavoce.errors import InputError, shown
from vivavoce.runtime.espeak import speakable, spoken_clauses

ESPEAK_VOICES: Mapping[str, str] = MappingProxyType(
    {"en": "en-us", "de": "de", "fr": "fr", "es": "es"}
)
"""ISO 639-1 code to espeak-ng's voice."""

MARKS = ';:,.!?¡¿—…"«»“”(){}[]'
"""Marks that are kept; all others are espeak-ng's to speak or to drop."""

_STRETCH = re.compile(rf"[^{re.escape(MARKS)}]+|[{re.escape(MARKS)}]+")
_SWITCH = re.compile(r"\([a-z-]+\)")
_NEWER: dict[int, str | None] = {ord("ʲ"): None}
_GERMAN_R = re.compile("(?<=[pbtdkɡ])r")
"""What espeak-ng after 1.52 writes otherwise than 1.52, which the models were trained with: a
glide between vowels, and German r after a plosive."""


@lru_cache(maxsize=256)
def phonemes(text: str, language: str) -> str:
    """Phonemes of a normalized ``text``; empty where nothing in it is spoken.

    ``language`` is an ISO 639-1 code. E.g. "My name is Andy. I'm 25" in "en" is
    "maɪ nˈeɪm ɪz ˈændi. aɪm twˈɛnti fˈaɪv". Raises InputError for a language without a voice
    and for a text that espeak-ng dies of, ModelFileError where espeak-ng lacks it.
    """
    voice = espeak_voice(language)
    text = speakable(text)
    parts = [_stretch(found[0], voice) for found in _STRETCH.finditer(text)]
    joined = " ".join("".join(parts).split())
    if language == "fr":
        joined = joined.replace("-", "")
    return joined if any(map(str.isalpha, joined)) else ""


def espeak_voice(language: str) -> str:
    """espeak-ng's voice of a language. Raises InputError."""
    voice = ESPEAK_VOICES.get(language)
    if voice is None:
        known = ", ".join(ESPEAK_VOICES)
        raise InputError(
            f"No NeuTTS model speaks {shown(language)}; there are: {known}.", param="language"
        )
    return voice


def _stretch(text: str, voice: str) -> str:
    """A stretch without marks, with the spaces around it; marks stay as they are."""
    if text[0] in MARKS or not text.strip():
        return text
    spoken = _espeak(text.strip(), voice)
    before = " " if text[0].isspace() else ""
    after = " " if text[-1].isspace() else ""
    return before + spoken + after


def _espeak(text: str, voice: str) -> str:
    joined = " ".join(clause.phonemes for clause in spoken_clauses(text, voice))
    joined = _SWITCH.sub("", joined).replace("_", "").translate(_NEWER)
    return _GERMAN_R.sub("ɾ", joined) if voice == "de" else joined
