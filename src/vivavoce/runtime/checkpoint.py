"""Weight files as arrays, whatever their format, and how a file differs from what a model needs.

``pytorch_model.bin`` or safetensors, read without torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from vivavoce.errors import ModelFileError
from vivavoce.runtime.safetensors_file import SafetensorsFile, TensorEntry
from vivavoce.runtime.torch_zip import NUMPY, Floats, TorchZip, to_float32

Shape: TypeAlias = tuple[int, ...]
NAMED_FAULTS = 6
FILES = ("model.safetensors", "pytorch_model.bin")
"""What a folder is searched for, in this order."""


class WeightFile(Protocol):
    """An opened file of tensors."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes of all tensors."""

    def read(self, name: str) -> Floats:
        """One tensor in float32. Raises ModelFileError for damaged values."""

    def digest(self, names: list[str]) -> str:
        """A checksum that tells the file's version apart by these tensors."""


@dataclass(frozen=True, slots=True)
class SafetensorsWeights:
    """A safetensors file."""

    file: SafetensorsFile

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.file.path

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes of all tensors."""
        return {name: entry.shape for name, entry in self.file.entries.items()}

    def read(self, name: str) -> Floats:
        """One tensor in float32. Raises ModelFileError."""
        entry = self.file.entries[name]
        if entry.dtype not in NUMPY:
            raise ModelFileError(f"{self.path}: {name} is {entry.dtype}.")
        values = np.empty(entry.shape, NUMPY[entry.dtype])
        self.file.read_into(name, values.reshape(-1).view(np.uint8).data)
        return to_float32(values, entry.dtype)

    def digest(self, names: list[str]) -> str:
        """A checksum of the tensors' places and of the file's time and size: values are not read,
        as that would take longer than loading."""
        facts = [(name, self.file.entries[name]) for name in sorted(names)]
        changed = self.path.stat()
        told = (facts, changed.st_mtime_ns, changed.st_size)
        return hashlib.sha256(repr(told).encode()).hexdigest()


def open_weights(path: Path | str) -> WeightFile:
    """Open a weight file, or the one in a folder. Raises ModelFileError."""
    path = Path(path)
    if path.is_dir():
        path = _in_folder(path)
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    if path.suffix == ".safetensors":
        return SafetensorsWeights(SafetensorsFile.open(path))
    if start[:2] == b"\x80\x02":
        raise ModelFileError(f"{path} is in PyTorch's old format: load and save it with torch.")
    return TorchZip.open(path)


def _in_folder(folder: Path) -> Path:
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise ModelFileError(f"{folder} has none of {', '.join(FILES)}.")


def fused(length: Floats, direction: Floats) -> Floats:
    """A weight from its weight norm: normalized over the dimensions ``length`` has 1 of."""
    over = tuple(i for i, size in enumerate(length.shape) if size == 1)
    if length.ndim != direction.ndim:
        over = tuple(range(1, direction.ndim))
    norm = np.sqrt(np.square(direction).sum(over, keepdims=True))
    weight: Floats = direction * (length.reshape(norm.shape) / norm)
    return weight


def differences(
    expected: Mapping[str, Shape], entries: Mapping[str, TensorEntry], dtypes: Sequence[str]
) -> str:
    """In words what a safetensors file lacks of ``expected``, or has beside it; "" where nothing.

    A tensor of a dtype that is not among ``dtypes`` is wrong, too.
    """
    wrong = []
    for name, shape in expected.items():
        entry = entries.get(name)
        if entry is not None and entry.shape != shape:
            wrong.append(f"{name} is {list(entry.shape)}, not {list(shape)}")
        elif entry is not None and entry.dtype not in dtypes:
            wrong.append(f"{name} is {entry.dtype}, not one of {', '.join(dtypes)}")
    missing = [name for name in expected if name not in entries]
    extra = [name for name in entries if name not in expected]
    return in_words({"missing": missing, "unexpected": extra, "wrong:": wrong})


def in_words(faults: Mapping[str, Sequence[str]]) -> str:
    """Names by what is the matter with them, a few of each; "" where there are none."""
    return "; ".join(f"{what} {some(names)}" for what, names in faults.items() if names)


def some(names: Sequence[str], between: str = ", ") -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - NAMED_FAULTS
    return between.join(names[:NAMED_FAULTS]) + (f" and {more} more" if more > 0 else "")
