"""A checkpoint folder: checked strictly when it is opened, read piece by piece.

Reading holds the target and one block of a tensor, never two copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from vivavoce.engines.neutts.torch_lm.config import LmConfig, resolve_tied
from vivavoce.engines.neutts.torch_lm.tensor_names import HEAD, Shape, tensor_shapes
from vivavoce.errors import ModelFileError
from vivavoce.runtime.json_config import JsonObject
from vivavoce.runtime.safetensors_file import SafetensorsFile

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
BLOCK_BYTES = 1 << 25
NAMED_FAULTS = 5


@dataclass(frozen=True, slots=True)
class Weights:
    """An opened folder; ``files`` says in which file each tensor is."""

    folder: Path
    config: LmConfig
    tied: bool
    files: Mapping[str, SafetensorsFile]

    @property
    def head(self) -> str:
        """The name of the tensor the head is read from."""
        return "model.embed_tokens.weight" if self.tied else HEAD

    def dtype(self, name: str) -> torch.dtype:
        """What a tensor is stored in."""
        return DTYPES[self.files[name].entries[name].dtype]

    def read_into(self, name: str, out: Tensor, first_row: int = 0) -> None:
        """Copy rows of a tensor, from ``first_row`` on, into all of ``out``, converting them.

        ``out`` [n, ...] may be on any device. Raises ModelFileError where the file ends early.
        """
        file = self.files[name]
        entry = file.entries[name]
        rows = entry.shape[0]
        row_bytes = entry.size_bytes // rows
        step = max(1, BLOCK_BYTES // row_bytes)
        try:
            with file.path.open("rb") as stream:
                stream.seek(entry.start_byte + first_row * row_bytes)
                for start in range(0, out.shape[0], step):
                    part = out[start : start + step]
                    part.copy_(_block(stream, part.shape, DTYPES[entry.dtype]))
        except (OSError, EOFError) as error:
            raise ModelFileError(f"{file.path}: {name} cannot be read: {error}") from error


def _block(stream: BinaryIO, shape: Shape, dtype: torch.dtype) -> Tensor:
    size = int(np.prod(shape)) * dtype.itemsize
    data = bytearray(stream.read(size))
    if len(data) != size:
        raise EOFError("the file ended early")
    return torch.frombuffer(data, dtype=dtype).view(shape)


def open_weights(folder: Path | str) -> Weights:
    """Open and check a local folder; no tensor is read yet.

    Every tensor that config.json asks for must be there with its shape, and no other, but a
    stored head of a tied model. Raises ModelFileError that names the file and what is wrong.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelFileError(f"{folder} is no folder with a checkpoint.")
    config = LmConfig.load(folder)
    files = _files(folder)
    tied = resolve_tied(config, has_head=HEAD in files, where=folder)
    expected = tensor_shapes(config, tied=tied)
    faults = _faults(expected, files, {HEAD} if tied else set())
    if faults:
        raise ModelFileError(f"{folder}: the tensors do not fit config.json: {faults}.")
    return Weights(folder, config, tied, files)


def _files(folder: Path) -> dict[str, SafetensorsFile]:
    """Every tensor's file: one file of all, or those that an index names."""
    if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file():
        file = SafetensorsFile.open(folder / WEIGHTS)
        return dict.fromkeys(file.entries, file)
    index = JsonObject.read(folder / INDEX).child("weight_map")
    names = {index.get(key, str) for key in index.values}
    outside = sorted(name for name in names if Path(name).name != name)
    if outside:
        raise ModelFileError(f"{folder / INDEX} names {outside[0]!r}, which is no plain name.")
    opened = [SafetensorsFile.open(folder / name) for name in sorted(names)]
    return {name: file for file in opened for name in file.entries}


def _faults(
    expected: Mapping[str, Shape], files: Mapping[str, SafetensorsFile], ignored: set[str]
) -> str:
    missing = [name for name in expected if name not in files]
    extra = [name for name in files if name not in expected and name not in ignored]
    wrong = [fault for name in expected if name in files for fault in _wrong(name, expected, files)]
    kinds = (("missing", missing), ("unexpected", extra), ("wrong:", wrong))
    return "; ".join(f"{what} {_some(names)}" for what, names in kinds if names)


def _wrong(
    name: str, expected: Mapping[str, Shape], files: Mapping[str, SafetensorsFile]
) -> list[str]:
    entry, shape = files[name].entries[name], expected[name]
    if entry.shape != shape:
        return [f"{name} is {list(entry.shape)}, not {list(shape)}"]
    if entry.dtype not in DTYPES:
        return [f"{name} is {entry.dtype}, not one of {', '.join(DTYPES)}"]
    return []


def _some(names: list[str]) -> str:
    more = len(names) - NAMED_FAULTS
    return ", ".join(names[:NAMED_FAULTS]) + (f" and {more} more" if more > 0 else "")
