"""Writes files that ``torch.load`` reads, without torch: the layout ``torch_zip`` describes."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROOT = "pytorch_model"

_PROTOCOL_2, _STOP = b"\x80\x02", b"."
_EMPTY_TUPLE, _REDUCE, _MARK, _TUPLE = b")", b"R", b"(", b"t"
_PERSISTENT_ID, _FALSE, _SET_ITEMS = b"Q", b"\x89", b"u"
_ORDERED_DICT = b"ccollections\nOrderedDict\n" + _EMPTY_TUPLE + _REDUCE


def write_torch_zip(
    path: Path,
    tensors: Iterator[tuple[str, NDArray[np.float32]]],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Write a state dict of float32 tensors, in the order of ``shapes``. Raises OSError.

    The file appears under ``path`` when it is whole.
    """
    part = path.with_name(path.name + ".part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(f"{ROOT}/data.pkl", _table(shapes))
            archive.writestr(f"{ROOT}/byteorder", "little")
            for number, (_, values) in enumerate(tensors):
                with archive.open(f"{ROOT}/data/{number}", "w", force_zip64=True) as file:
                    file.write(np.ascontiguousarray(values, "<f4").data)
            archive.writestr(f"{ROOT}/version", "3\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _table(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    items = b"".join(
        _text(name) + _tensor(number, shape) for number, (name, shape) in enumerate(shapes.items())
    )
    return _PROTOCOL_2 + _ORDERED_DICT + _MARK + items + _SET_ITEMS + _STOP


def _tensor(number: int, shape: tuple[int, ...]) -> bytes:
    """A call of torch's ``_rebuild_tensor_v2`` on a storage of its own."""
    storage = _text("storage") + b"ctorch\nFloatStorage\n" + _text(str(number)) + _text("cpu")
    strides = [prod(shape[i + 1 :]) for i in range(len(shape))]
    arguments = (
        _MARK + storage + _number(prod(shape)) + _TUPLE + _PERSISTENT_ID
        + _number(0) + _numbers(shape) + _numbers(strides) + _FALSE + _ORDERED_DICT
    )  # fmt: skip
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + _MARK + arguments + _TUPLE + _REDUCE


def _numbers(values: tuple[int, ...] | list[int]) -> bytes:
    return _MARK + b"".join(map(_number, values)) + _TUPLE


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw
