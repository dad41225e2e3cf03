"""The published tokenizer's three files, from two in ``published/``.

They are the Qwen team's data (Apache-2.0). merges.txt is kept compressed; vocab.json follows from
it: a token for every byte, then one for every merge, in their order.
"""

from __future__ import annotations

import json
import lzma
from importlib.resources import files
from pathlib import Path

PRINTABLE = (range(0x21, 0x7F), range(0xA1, 0xAD), range(0xAE, 0x100))
"""Bytes that stand for themselves in the byte-level alphabet; others stand from U+0100 on."""


def write_tokenizer(folder: Path) -> None:
    """Write vocab.json, merges.txt and tokenizer_config.json. Raises OSError."""
    published = files(__package__) / "published"
    merges = lzma.decompress((published / "merges.txt.xz").read_bytes())
    (folder / "merges.txt").write_bytes(merges)
    config = (published / "tokenizer_config.json").read_bytes()
    (folder / "tokenizer_config.json").write_bytes(config)
    tokens = [*_bytes(), *("".join(pair) for pair in _pairs(merges.decode("utf-8")))]
    vocab = {token: number for number, token in enumerate(tokens)}
    compact = json.dumps(vocab, ensure_ascii=False, separators=(",", ":"))
    (folder / "vocab.json").write_text(compact, "utf-8")


def _bytes() -> list[str]:
    """The letters of all bytes: those that stand for themselves first."""
    plain = [chr(each) for part in PRINTABLE for each in part]
    return [*plain, *(chr(0x100 + number) for number in range(256 - len(plain)))]


def _pairs(merges: str) -> list[list[str]]:
    lines = (line for line in merges.split("\n") if line and not line.startswith("#version"))
    return [line.split(" ") for line in lines]
