"""A tokenizer.json for a made-up vocabulary: byte-level BPE as the published models have it."""

from __future__ import annotations

import json
from typing import Any

from gguf import TokenType

from vivavoce.engines.neutts.family import Family
from vivavoce.testing.random_vocabulary import TokenList

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DIGITS = {"llama": r"\p{N}{1,3}", "qwen2": r"\p{N}", "qwen3": r"\p{N}"}


def tokenizer_json(family: Family, tokens: TokenList) -> str:
    """The file's text. Padding has no token; a Llama tokenizer puts BOS first."""
    words = _words(tokens)
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


def _words(tokens: TokenList) -> dict[str, int]:
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
