"""A copy of a GGUF model without the vocabulary rows that NeuTTS never uses.

Half the work of a token is the head over some 200,000 rows, of which 65,537 can be drawn. Rows of
a quantized tensor are self-contained, so that leaving rows out changes no kept row's logit by a
bit. The copy holds the ids it kept (``KEPT_IDS``): the original's vocabulary is still needed to
tokenize, the copy's own tokenizer is only a list of names. A copy is for the machine it is made
on: the models' licences do not let it be passed on.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vivavoce.engines.neutts.family import PromptLayout
from vivavoce.engines.neutts.gguf.kept_tokens import Ids, kept_tokens
from vivavoce.engines.neutts.gguf.metadata import (
    ARRAY,
    MAGIC,
    STRING,
    GgufHeader,
    TensorInfo,
    mapped,
    read_header,
)
from vivavoce.errors import ModelFileError

TOKENS = "tokenizer.ggml.tokens"
TOKEN_TYPES = "tokenizer.ggml.token_type"
SCORES = "tokenizer.ggml.scores"
MERGES = "tokenizer.ggml.merges"
KEPT_IDS = "vivavoce.kept_ids"
SOURCE = "vivavoce.source"
VOCABULARY_TENSORS = ("token_embd.weight", "output.weight")

INT32, FLOAT32, UINT32 = 5, 6, 4
COPY_ROWS = 8192


def prune(source: Path, target: Path, layout: PromptLayout, needed: Ids, stamp: str) -> int:
    """Write the pruned copy of ``source`` to ``target``; ``needed`` are ids to keep in any case.

    ``stamp`` (field ``SOURCE``) says what it was made from. Returns the number of kept rows.
    Raises ModelFileError where the source is damaged, OSError where the target cannot be written.
    """
    header = read_header(source)
    tokens, kinds = header.strings(TOKENS), header.array(TOKEN_TYPES)
    if tokens is None or kinds is None or len(tokens) != len(kinds):
        raise ModelFileError(f"{source} has no token list with types.")
    kept = np.union1d(kept_tokens(tokens, kinds, layout), needed).astype(np.int32)
    fields = _changed_fields(header, tokens, kinds, kept) | {SOURCE: _string_field(stamp)}
    copies = _plan(header, len(tokens), kept)
    with mapped(source) as data, target.open("wb") as file:
        _write_header(file, header, data, fields, copies)
        for copy in copies:
            _pad(file, header.alignment)
            for block in copy.blocks(data):
                file.write(block)
    return len(kept)


@dataclass(frozen=True, slots=True)
class _Copy:
    """One tensor on its way: from ``start`` of the source, only the rows ``kept`` if given."""

    info: TensorInfo
    start: int
    size_bytes: int
    kept: Ids | None

    def blocks(self, data: mmap.mmap) -> Iterator[bytes]:
        if self.kept is None:
            yield data[self.start : self.start + self.size_bytes]
            return
        width = self.info.row_bytes
        for first in range(0, len(self.kept), COPY_ROWS):
            rows = self.kept[first : first + COPY_ROWS]
            low, high = int(rows[0]), int(rows[-1]) + 1
            raw = data[self.start + low * width : self.start + high * width]
            yield np.frombuffer(raw, np.uint8).reshape(-1, width)[rows - low].tobytes()


def _plan(header: GgufHeader, vocabulary: int, kept: Ids) -> list[_Copy]:
    copies, offset = [], 0
    for info in header.tensors:
        start, size = header.data_start + info.offset, info.size_bytes
        if start + size > header.size_bytes:
            raise ModelFileError(f"{header.path} is cut off: the tensor {info.name} is not whole.")
        rows = kept if info.name in VOCABULARY_TENSORS else None
        if rows is not None:
            if prod(info.shape[1:]) != vocabulary:
                raise ModelFileError(f"{header.path}: {info.name} does not fit the vocabulary.")
            size = info.row_bytes * len(rows)
        shape = info.shape if rows is None else (info.shape[0], len(rows))
        copies.append(_Copy(replace(info, shape=shape, offset=offset), start, size, rows))
        offset += -(-size // header.alignment) * header.alignment
    return copies


def _changed_fields(
    header: GgufHeader, tokens: list[bytes], kinds: Ids, kept: Ids
) -> dict[str, bytes]:
    """The value of every field that is not copied; empty for a field that is left out."""
    ids = kept.tolist()
    changed = {
        TOKENS: _string_array([tokens[index] for index in ids]),
        TOKEN_TYPES: _array(INT32, kinds[kept].astype("<i4").tobytes(), len(ids)),
        MERGES: _string_array([b"a b"]),  # llama.cpp wants one; nothing is tokenized with it
        KEPT_IDS: _array(INT32, kept.astype("<i4").tobytes(), len(ids)),
    }
    scores = header.array(SCORES)
    if scores is not None:
        changed[SCORES] = _array(FLOAT32, scores[kept].astype("<f4").tobytes(), len(ids))
    size = f"{header.text('general.architecture')}.vocab_size"
    if size in header.fields:
        changed[size] = struct.pack("<II", UINT32, len(ids))
    place = {old: new for new, old in enumerate(ids)}
    for key in header.fields:
        if key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
            new = place.get(int(header.number(key) or 0))
            changed[key] = b"" if new is None else struct.pack("<II", UINT32, new)
    return changed


def _write_header(
    file: BinaryIO,
    header: GgufHeader,
    data: mmap.mmap,
    changed: Mapping[str, bytes],
    copies: list[_Copy],
) -> None:
    entries = [
        data[field.start : field.end] for key, field in header.fields.items() if key not in changed
    ]
    entries += [_text(key.encode()) + value for key, value in changed.items() if value]
    file.write(MAGIC + struct.pack("<IQQ", header.version, len(copies), len(entries)))
    file.writelines(entries)
    for copy in copies:
        info = copy.info
        file.write(_text(info.name.encode()) + struct.pack("<I", len(info.shape)))
        file.write(struct.pack(f"<{len(info.shape)}Q", *info.shape))
        file.write(struct.pack("<IQ", info.ggml_type, info.offset))
    _pad(file, header.alignment)


def _pad(file: BinaryIO, alignment: int) -> None:
    file.write(bytes(-file.tell() % alignment))


def _text(raw: bytes) -> bytes:
    return struct.pack("<Q", len(raw)) + raw


def _string_field(text: str) -> bytes:
    return struct.pack("<I", STRING) + _text(text.encode())


def _string_array(strings: list[bytes]) -> bytes:
    head = struct.pack("<IIQ", ARRAY, STRING, len(strings))
    return head + b"".join(map(_text, strings))


def _array(kind: int, raw: bytes, count: int) -> bytes:
    return struct.pack("<IIQ", ARRAY, kind, count) + raw
