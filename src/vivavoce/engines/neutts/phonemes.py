"""Text to phonemes as Air and Nano were trained on them: espeak-ng, stress and punctuation kept.

The training data was made with the ``phonemizer`` package's conventions: the text is cut at
punctuation marks, each stretch is phonemised by itself, the marks go back between them, and
whitespace is collapsed. Languages that espeak-ng switches to inside a stretch are not marked.
espeak-ng keeps global state, so every call holds one lock.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any

from vivavoce.engines.espeak import ESPEAK_LOCK
from vivavoce.errors import InputError, ModelFileError, shown
from vivavoce.runtime.onnx import switch_telemetry_off

ESPEAK_VOICES: Mapping[str, str] = MappingProxyType(
    {"en": "en-us", "de": "de", "fr": "fr", "es": "es"}
)
"""ISO 639-1 code to espeak-ng's voice."""

MARKS = ';:,.!?¡¿—…"«»“”(){}[]'
"""Marks that are kept; all others are espeak-ng's to speak or to drop."""

_STRETCH = re.compile(rf"[^{re.escape(MARKS)}]+|[{re.escape(MARKS)}]+")
_SWITCH = re.compile(r"\([a-z-]+\)")
_UNSPEAKABLE: dict[int, str | None] = {
    **dict.fromkeys((*range(32), *range(127, 160), *range(0xD800, 0xE000))),
    **dict.fromkeys(map(ord, "\n\r\t\v\f\x85"), " "),
}
_NEWER: dict[int, str | None] = {ord("ʲ"): None}
_GERMAN_R = re.compile("(?<=[pbtdkɡ])r")
"""What espeak-ng after 1.52 writes otherwise than 1.52, which the models were trained with: a
glide between vowels, and German r after a plosive."""


@lru_cache(maxsize=256)
def phonemes(text: str, language: str) -> str:
    """Phonemes of a normalised ``text``; empty where nothing in it is spoken.

    ``language`` is an ISO 639-1 code. E.g. "My name is Andy. I'm 25" in "en" is
    "maɪ nˈeɪm ɪz ˈændi. aɪm twˈɛnti fˈaɪv". Raises InputError for a language without a voice,
    ModelFileError where espeak-ng lacks it.
    """
    voice = espeak_voice(language)
    text = text.translate(_UNSPEAKABLE)
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
    bridge = _bridge()
    with ESPEAK_LOCK:
        try:
            bridge.set_voice(voice)
            clauses = bridge.get_phonemes(text)
        except RuntimeError as error:
            raise ModelFileError(f"espeak-ng cannot speak {voice!r}: {error}") from error
    joined = " ".join(spoken for spoken, _, _ in clauses)
    joined = _SWITCH.sub("", joined).replace("_", "").translate(_NEWER)
    return _GERMAN_R.sub("ɾ", joined) if voice == "de" else joined


@cache
def _bridge() -> Any:
    switch_telemetry_off()  # piper imports ONNX Runtime
    from piper import espeakbridge
    from piper.phonemize_espeak import ESPEAK_DATA_DIR

    espeakbridge.initialize(str(ESPEAK_DATA_DIR))
    return espeakbridge
