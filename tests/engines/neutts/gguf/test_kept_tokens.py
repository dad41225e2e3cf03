"""Which vocabulary rows are kept."""

from __future__ import annotations

import numpy as np
import pytest

from vivavoce.engines.neutts.family import PromptLayout
from vivavoce.engines.neutts.gguf.kept_tokens import byte_alphabet, kept_tokens, token_bytes

ALPHABET = byte_alphabet()


def written(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return "".join(ALPHABET[byte] for byte in raw).encode()


def kept(layout: PromptLayout, *tokens: bytes) -> list[bool]:
    kinds = np.ones(len(tokens), np.int32)
    ids = kept_tokens(tokens, kinds, layout)
    return [index in ids for index in range(len(tokens))]


def test_the_byte_alphabet_is_gpt2s() -> None:
    assert len(set(ALPHABET.values())) == 256
    assert (ALPHABET[32], ALPHABET[10], ALPHABET[65], ALPHABET[0]) == ("Ġ", "Ċ", "A", "Ā")
    assert token_bytes("Ġa".encode()) == b" a"
    assert token_bytes("<|speech_€|>".encode()) is None


@pytest.mark.parametrize(
    "piece", ["ˈæ", " ð", "nt", " kɑːn", "ɡ", "ɹɪ", "ᵻ", "ɔ̃", "...", " ,", "?!", "-st", "tɾi", "ʌ"]
)
def test_pieces_of_phonemes_are_kept(piece: str) -> None:
    assert kept("phonemes", written(piece)) == [True]


@pytest.mark.parametrize(
    "piece", [" international", "World", "ing", "中", "123", "();\n", "    ", "Ж"]
)
def test_what_phonemes_never_hold_is_left_out(piece: str) -> None:
    assert kept("phonemes", written(piece)) == [False]


def test_every_byte_is_kept() -> None:
    assert all(kept("phonemes", *(written(bytes([byte])) for byte in range(256))))


def test_parts_of_the_alphabets_characters_are_kept_and_others_are_not() -> None:
    begins, other = written(" ɪ".encode()[:-1]), written("中".encode()[:2])
    assert kept("phonemes", begins, other) == [True, False]


def test_text_models_keep_latin_script() -> None:
    words = (written(" international"), written(" mañana"), written("«"), written("中文"))
    assert kept("text", *words) == [True, True, True, False]


def test_special_tokens_are_kept_and_padding_is_not() -> None:
    tokens = [b"<|speech_1|>", b"<|im_end|>", b"[PAD1]", b"International"]
    kinds = np.array([4, 3, 5, 1], np.int32)
    assert kept_tokens(tokens, kinds, "phonemes").tolist() == [0, 1]
