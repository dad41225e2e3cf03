"""Which tokens of a vocabulary a NeuTTS model can read or say: the others' rows are dead weight.

Phonemes are written in small letters without c, g and q, in IPA, and in punctuation. espeak-ng
puts stress marks and IPA vowels between plain letters, so that long runs of those do not occur:
of 630,000 tokens of phonemes in four languages under the Qwen2 vocabulary, 0.05 % held more than
four in a row. What is not kept is spelt with shorter kept tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivavoce.engines.neutts.family import PromptLayout

Ids: TypeAlias = NDArray[np.int32]

NORMAL_TOKEN = 1
UNUSED_TOKEN = 5
"""GGUF token types (``tokenizer.ggml.token_type``)."""

MAX_LETTERS = 4
_MARKS = ".,;:!?'\"()\\-–—…¿¡«»“”‘’"
_IPA = "ɐ-˿\u0300-\u036fᴀ-ᶿæçðøœŋβθχ↓↑→‿"
PHONEMES = re.compile(rf" ?(?:[{_MARKS}]{{1,3}}|[{_MARKS}]?[abdefh-pr-z{_IPA}]+| )")
LONG_RUN = re.compile(rf"[a-z]{{{MAX_LETTERS + 1},}}")
LATIN = re.compile("[\0-\u024f\u2000-\u206f\u20ac]+")
PART_OF_CHARACTER = re.compile(rb"[\x80-\xbf]*[ -~]?[\xc2-\xcd\xe1\xe2]?[\x80-\xbf]?")
"""A token that begins or ends within one of the alphabet's characters."""

PART_BYTES = 3
"""A longer token that is no UTF-8 holds a whole character of another script."""


def kept_tokens(tokens: Sequence[bytes], kinds: NDArray[np.int32], layout: PromptLayout) -> Ids:
    """Ids to keep, ascending: everything special, every byte, and the layout's alphabet.

    ``tokens`` in GPT-2's byte alphabet as GGUF stores them, ``kinds`` [len(tokens)].
    """
    kept = kinds != NORMAL_TOKEN
    kept &= kinds != UNUSED_TOKEN
    wanted = _is_phonemes if layout == "phonemes" else _is_latin
    for index in np.flatnonzero(kinds == NORMAL_TOKEN).tolist():
        raw = token_bytes(tokens[index])
        kept[index] = raw is None or len(raw) == 1 or wanted(raw)
    return np.flatnonzero(kept).astype(np.int32)


def token_bytes(token: bytes) -> bytes | None:
    """The bytes a normal token stands for; None where it is not in GPT-2's byte alphabet."""
    text = token.decode("utf-8", "replace")
    try:
        return bytes(_BYTES[char] for char in text)
    except KeyError:
        return None


def byte_alphabet() -> dict[int, str]:
    """GPT-2's printable character for each byte (Radford et al. 2019, ``bytes_to_unicode``)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {byte: chr(byte) for byte in plain} | {b: chr(256 + i) for i, b in enumerate(others)}


_BYTES = {char: byte for byte, char in byte_alphabet().items()}


def _is_phonemes(raw: bytes) -> bool:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return PART_OF_CHARACTER.fullmatch(raw) is not None
    return PHONEMES.fullmatch(text) is not None and LONG_RUN.search(text) is None


def _is_latin(raw: bytes) -> bool:
    try:
        return LATIN.fullmatch(raw.decode()) is not None
    except UnicodeDecodeError:
        return len(raw) <= PART_BYTES
