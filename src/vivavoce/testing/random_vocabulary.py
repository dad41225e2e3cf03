"""Token lists in the published models' layout, filled with made-up words, and their tokenizer.json.

The special tokens stand where the published files have them (with ``real_size``), and the words
are pieces of phonemes first, in the number that pruning keeps of a real vocabulary, then words
that it does not keep. Merges exist for all, so that loading takes as long as it really does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice, product
from typing import Any

from gguf import TokenType

from vivavoce.engines.neutts.backbone import SPEECH_CODES
from vivavoce.engines.neutts.family import (
    EMOTIONS,
    SPEECH_END,
    SPEECH_START,
    TEXT_END,
    TEXT_START,
    Family,
    emotion_token,
)
from vivavoce.engines.neutts.gguf.kept_tokens import byte_alphabet

LETTERS = "abdefhijklmnoprstuvwxyz"
PHONEME_PIECES = 12_000
SMALL_PIECES = 23
SMALL_CHAIN = "abdefh"
"""In small vocabularies every beginning of it from three letters on is a token too."""

SMALL_WORDS = SMALL_PIECES + len(SMALL_CHAIN) - 2 + 13

BEFORE_CODES = (
    "<|TEXT_REPLACE|>",
    TEXT_START,
    TEXT_END,
    "<|SPEECH_REPLACE|>",
    SPEECH_START,
    SPEECH_END,
)
UNNAMED_IN_2E = ("<|EXTRA_0|>", "<|EXTRA_1|>")
"""2E has nine tokens between END and the first code; seven of them are emotions."""


@dataclass(frozen=True, slots=True)
class VocabularyShape:
    """``words`` counts what comes before the six special tokens, ``rows`` all, with padding."""

    words: int
    rows: int
    bos: str
    first_control: int
    """The first word that is a control token; ``bos`` is that one."""

    stop: str
    """The config's end of text (not the end of speech)."""


SHAPES = {
    "air": VocabularyShape(151_665, 217_652, "<|endoftext|>", 151_643, "<|im_end|>"),
    "nano": VocabularyShape(128_256, 194_256, "<|begin_of_text|>", 128_000, SPEECH_END),
    "2e": VocabularyShape(151_669, 217_232, "<|endoftext|>", 151_643, SPEECH_END),
}


@dataclass(slots=True)
class TokenList:
    """Names and GGUF types of all tokens, merges, and the ids that a file names."""

    names: list[str] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    bos: int = 0
    eos: int = 0
    end: int = 0
    first_speech: int = 0

    def add(self, kind: TokenType, *names: str) -> None:
        """Append tokens of one kind."""
        self.names += names
        self.kinds += [int(kind)] * len(names)


def token_list(family: Family, *, real_size: bool) -> TokenList:
    """The tokens of one model; without ``real_size`` some 300 words, else as many as published."""
    shape, made = SHAPES[family.name], TokenList()
    alphabet = byte_alphabet()
    made.add(TokenType.NORMAL, *(alphabet[byte] for byte in range(256)))
    words = shape.first_control - 256 if real_size else SMALL_WORDS
    for left, right in islice(_words() if real_size else _small_words(), words):
        made.add(TokenType.NORMAL, left + right)
        made.merges.append(f"{left} {right}")
    controls = shape.words - shape.first_control if real_size else 3
    made.bos = len(made.names)
    made.add(TokenType.CONTROL, *_controls(shape, controls))
    made.add(TokenType.USER_DEFINED, *BEFORE_CODES)
    made.end = len(made.names) - 1
    if family.emotions:
        made.add(TokenType.USER_DEFINED, *map(emotion_token, EMOTIONS), *UNNAMED_IN_2E)
    made.first_speech = len(made.names)
    made.add(TokenType.USER_DEFINED, *(f"<|speech_{code}|>" for code in range(SPEECH_CODES)))
    if real_size:
        padding = shape.rows - len(made.names)
        made.add(TokenType.UNUSED, *(f"[PAD{index}]" for index in range(padding)))
    made.eos = made.names.index(shape.stop)
    return made


def _controls(shape: VocabularyShape, number: int) -> list[str]:
    named = list(dict.fromkeys((shape.bos, "<|im_start|>", "<|im_end|>")))
    return named + [f"<|reserved_{index}|>" for index in range(number - len(named))]


def _words() -> Iterator[tuple[str, str]]:
    """Pairs that merge: pieces of phonemes of two and three letters, then made-up words."""
    pieces = ("".join(letters) for n in (2, 3) for letters in product(LETTERS, repeat=n))
    for word in islice(pieces, PHONEME_PIECES):
        yield word[:-1], word[-1]
    yield from _unread_words()


def _small_words() -> Iterator[tuple[str, str]]:
    for letter in LETTERS[:SMALL_PIECES]:
        yield "a", letter
    for end in range(2, len(SMALL_CHAIN)):
        yield SMALL_CHAIN[:end], SMALL_CHAIN[end]
    yield from _unread_words()


def _unread_words() -> Iterator[tuple[str, str]]:
    """No text is ever split into these."""
    return (("Ġ", f"word{number}") for number in count())


CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DIGITS = {"llama": r"\p{N}{1,3}", "qwen2": r"\p{N}", "qwen3": r"\p{N}"}


def tokenizer_json(family: Family, tokens: TokenList) -> str:
    """The file's text. Padding has no token; a Llama tokenizer puts BOS first."""
    words = _token_numbers(tokens)
    pattern = "|".join((CONTRACTIONS, DIGITS[family.architecture], REST))
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(tokens),
        "normalizer": None if family.architecture == "llama" else {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{**split, "invert": False}, byte_level],
        },
        "post_processor": _with_bos(tokens) if family.architecture == "llama" else byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": words,
            "merges": [merge for merge in tokens.merges if set(merge.split(" ")) <= words.keys()],
        },
    }
    return json.dumps(whole, ensure_ascii=False)


def _token_numbers(tokens: TokenList) -> dict[str, int]:
    normal = int(TokenType.NORMAL)
    pairs = enumerate(zip(tokens.names, tokens.kinds, strict=True))
    return {name: number for number, (name, kind) in pairs if kind == normal}


def _added(tokens: TokenList) -> list[dict[str, Any]]:
    control, user = int(TokenType.CONTROL), int(TokenType.USER_DEFINED)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [
        {"id": number, "content": name, **flags, "special": kind == control}
        for number, (name, kind) in enumerate(zip(tokens.names, tokens.kinds, strict=True))
        if kind in (control, user)
    ]


def _with_bos(tokens: TokenList) -> dict[str, Any]:
    name = tokens.names[tokens.bos]
    bos = {"SpecialToken": {"id": name, "type_id": 0}}
    text = [{"Sequence": {"id": which, "type_id": 0}} for which in "AB"]
    return {
        "type": "TemplateProcessing",
        "single": [bos, text[0]],
        "pair": [bos, text[0], text[1]],
        "special_tokens": {name: {"id": name, "ids": [tokens.bos], "tokens": [name]}},
    }
