"""The header of a GGUF file: where its fields and tensors lie, read without reading them.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
The token list of a model has hundreds of thousands of strings; it is skipped, not read, unless it
is asked for.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivavoce.errors import ModelFileError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""GGUF value types as ``struct`` formats."""

DEFAULT_ALIGNMENT = 32
MOST_ENTRIES = 1 << 20
"""More fields or tensors than any model has: a damaged file."""

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Field:
    """One key and where it lies: ``start`` before its key, ``value`` after its type, ``end``."""

    kind: int
    start: int
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: ``shape`` as stored (row length first), ``offset`` from ``data_start``."""

    name: str
    shape: tuple[int, ...]
    ggml_type: int
    offset: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row. Raises ModelFileError for a type that is not known."""
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        try:
            values, size = GGML_QUANT_SIZES[GGMLQuantizationType(self.ggml_type)]
        except (ValueError, KeyError) as error:
            raise ModelFileError(
                f"The tensor {self.name} has the unknown type {self.ggml_type}."
            ) from error
        return self.shape[0] // values * size

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole tensor."""
        return self.row_bytes * prod(self.shape[1:])


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a file holds and where. Offsets are bytes from the file's beginning."""

    path: Path
    version: int
    fields: Mapping[str, Field]
    tensors: tuple[TensorInfo, ...]
    data_start: int
    size_bytes: int

    @property
    def alignment(self) -> int:
        """What every tensor's offset is a multiple of."""
        return int(self.number("general.alignment") or DEFAULT_ALIGNMENT)

    def is_whole(self) -> bool:
        """Whether the file is long enough for every tensor. Raises ModelFileError."""
        ends = (self.data_start + info.offset + info.size_bytes for info in self.tensors)
        return max(ends, default=0) <= self.size_bytes

    def text(self, key: str) -> str | None:
        """A string field; None where it is missing or of another type."""
        field = self.fields.get(key)
        if field is None or field.kind != STRING:
            return None
        return self._bytes(field.value + 8, field.end).decode("utf-8", "replace")

    def number(self, key: str) -> int | float | bool | None:
        """A scalar field; None where it is missing or of another type."""
        field = self.fields.get(key)
        if field is None or field.kind not in SCALARS:
            return None
        raw = self._bytes(field.value, field.end)
        value: int | float | bool = struct.unpack("<" + SCALARS[field.kind], raw)[0]
        return value

    def strings(self, key: str) -> list[bytes] | None:
        """An array of strings, as raw UTF-8; None where it is missing or of another type."""
        field = self.fields.get(key)
        if field is None or field.kind != ARRAY:
            return None
        raw = self._bytes(field.value, field.end)
        if _U32.unpack_from(raw)[0] != STRING:
            return None
        return list(_strings(raw, 12, _U64.unpack_from(raw, 4)[0]))

    def array(self, key: str) -> NDArray[Any] | None:
        """An array of numbers; None where it is missing or of another type."""
        field = self.fields.get(key)
        if field is None or field.kind != ARRAY:
            return None
        raw = self._bytes(field.value, field.end)
        kind = _U32.unpack_from(raw)[0]
        return np.frombuffer(raw, "<" + SCALARS[kind], offset=12) if kind in SCALARS else None

    def _bytes(self, start: int, end: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)


def read_header(path: Path) -> GgufHeader:
    """Read a file's header. Raises ModelFileError where it is no GGUF file or ends too soon."""
    try:
        with mapped(path) as data:
            return _Parser(path, data).header()
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path} is no whole GGUF file: {error}.") from error


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """A file's bytes, read-only. Raises ModelFileError where it cannot be opened."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}.") from error
    with data:
        yield data


class _Parser:
    """Walks through a mapped header once."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data, self._at = path, data, 0

    def header(self) -> GgufHeader:
        if self._data[:4] != MAGIC:
            raise ValueError("it does not begin with GGUF")
        self._at = 4
        version = self._u32()
        if version not in VERSIONS:
            raise ValueError(f"its version is {version}")
        tensors, fields = self._count(), self._count()
        found = dict(self._field() for _ in range(fields))
        infos = tuple(self._tensor() for _ in range(tensors))
        bare = GgufHeader(self._path, version, found, infos, 0, len(self._data))
        alignment = bare.alignment
        if alignment < 1:
            raise ValueError("its alignment is 0")
        start = -(-self._at // alignment) * alignment
        return GgufHeader(self._path, version, found, infos, start, len(self._data))

    def _field(self) -> tuple[str, Field]:
        start, key, kind = self._at, self._text(), self._u32()
        value = self._at
        self._skip(kind)
        if self._at > len(self._data):
            raise ValueError("its header is cut off")
        return key, Field(kind, start, value, self._at)

    def _tensor(self) -> TensorInfo:
        name, dimensions = self._text(), self._u32()
        shape = tuple(self._u64() for _ in range(dimensions))
        return TensorInfo(name, shape, self._u32(), self._u64())

    def _skip(self, kind: int) -> None:
        if kind in SCALARS:
            self._at += struct.calcsize("<" + SCALARS[kind])
        elif kind == STRING:
            length = self._u64()
            self._at += length
        elif kind == ARRAY:
            self._skip_array(self._u32(), self._u64())
        else:
            raise ValueError(f"it has a field of the unknown type {kind}")

    def _skip_array(self, kind: int, count: int) -> None:
        if kind in SCALARS:
            self._at += count * struct.calcsize("<" + SCALARS[kind])
        elif kind == STRING:
            data, at, unpack = self._data, self._at, _U64.unpack_from
            for _ in range(count):
                at += 8 + unpack(data, at)[0]
            self._at = at
        else:
            for _ in range(count):
                self._skip(kind)

    def _count(self) -> int:
        count = self._u64()
        if count > MOST_ENTRIES:
            raise ValueError(f"it claims {count} entries")
        return count

    def _text(self) -> str:
        length = self._u64()
        raw = self._data[self._at : self._at + length]
        if len(raw) != length:
            raise ValueError("its header is cut off")
        self._at += length
        return raw.decode()

    def _u32(self) -> int:
        self._at += 4
        return int(_U32.unpack_from(self._data, self._at - 4)[0])

    def _u64(self) -> int:
        self._at += 8
        return int(_U64.unpack_from(self._data, self._at - 8)[0])


def _strings(raw: bytes, at: int, count: int) -> Iterator[bytes]:
    for _ in range(count):
        start = at + 8
        at = start + _U64.unpack_from(raw, at)[0]
        yield raw[start:at]
