"""The safetensors file format: its header checked in full, its tensors one at a time.

A file is eight bytes (little-endian length), that many bytes of JSON (name → dtype, shape and
data_offsets, counted from the end of the header) and the tensors' bytes. See the format's
description in the safetensors project. Tensors are read with plain reads, not through a memory
map: a file that shrinks under a running server then cannot kill it, and nothing stays mapped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from vivavoce.errors import ModelFileError

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000
ALIGNMENT_BYTES = 8
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one tensor is: ``start_byte`` counts from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    start_byte: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """An opened header. Reading raises ModelFileError where the file is not what it says."""

    path: Path
    entries: Mapping[str, TensorEntry]
    size_bytes: int

    @classmethod
    def open(cls, path: Path) -> SafetensorsFile:
        """Read and check the header: every byte of the file must belong to one tensor."""
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                header, start = _header(path, file, size)
        except OSError as error:
            raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
        entries = {
            name: _entry(path, name, facts, start)
            for name, facts in header.items()
            if name != "__metadata__"
        }
        _check_cover(path, entries, start, size)
        return cls(path, entries, size)

    def read_into(self, name: str, buffer: memoryview) -> None:
        """Fill ``buffer`` (bytes, of the tensor's size) with the tensor. Raises ModelFileError."""
        entry = self.entries[name]
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(entry.start_byte)
                _fill(file, buffer)
        except (OSError, EOFError) as error:
            raise ModelFileError(f"{self.path}: {name} cannot be read: {error}") from error


def _header(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if size < LENGTH_BYTES or not 2 <= length <= min(size - LENGTH_BYTES, MAX_HEADER_BYTES):
        raise ModelFileError(f"{path} is truncated, or no safetensors file ({size} bytes).")
    try:
        header = json.loads(file.read(length))
    except ValueError as error:
        raise ModelFileError(f"{path} is damaged, or no safetensors file: {error}") from error
    if not isinstance(header, dict):
        raise ModelFileError(f"{path} is damaged: its header is no JSON object.")
    return header, LENGTH_BYTES + length


def _entry(path: Path, name: str, facts: Any, start: int) -> TensorEntry:
    try:
        dtype, shape = str(facts["dtype"]), tuple(int(size) for size in facts["shape"])
        first, last = (int(offset) for offset in facts["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged: the entry of {name!r} is wrong.") from error
    expected = prod(shape) * ITEM_BYTES.get(dtype, 0)
    if first < 0 or min(shape, default=0) < 0 or last - first != expected:
        what = f"{dtype} {list(shape)} in {last - first} bytes"
        raise ModelFileError(f"{path} is damaged: {name!r} is {what}.")
    return TensorEntry(dtype, shape, start + first, expected)


def _check_cover(path: Path, entries: Mapping[str, TensorEntry], start: int, size: int) -> None:
    """The tensors must follow one another from the header to the end of the file."""
    reached = start
    for entry in sorted(entries.values(), key=lambda e: (e.start_byte, e.size_bytes)):
        if entry.start_byte != reached:
            raise ModelFileError(f"{path} is damaged: its tensors overlap or leave gaps.")
        reached += entry.size_bytes
    if reached > size:
        raise ModelFileError(f"{path} is truncated: {size} bytes of {reached}.")
    if reached < size:
        raise ModelFileError(f"{path} is damaged: {size - reached} bytes too many.")


def _fill(file: Any, buffer: memoryview) -> None:
    done = 0
    while done < len(buffer):
        count = file.readinto(buffer[done:])
        if not count:
            raise EOFError("the file ended early")
        done += count


@contextmanager
def writing(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> Iterator[BinaryIO]:
    """A file to write ``tensors`` (name → dtype, shape) into, in the mapping's order.

    The header is written; the caller writes the bytes of one tensor after the other. The file
    appears under ``path`` when it is whole. Raises ModelFileError where the caller wrote another
    number of bytes, OSError.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    total = 0
    for name, (dtype, shape) in tensors.items():
        end = total + prod(shape) * ITEM_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [total, end]}
        total = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT_BYTES)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)
            yield file
            written = file.tell() - LENGTH_BYTES - len(text)
        if written != total:
            raise ModelFileError(f"{path}: {written} bytes written of {total}.")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
