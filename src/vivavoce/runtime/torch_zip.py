"""Files that ``torch.save`` writes, read without torch and without running anything in them.

Such a file is a ZIP archive: ``<root>/data.pkl`` says which tensors there are, and their values are
``<root>/data/<key>`` (see "Serialization semantics" in PyTorch's notes). The pickle is read with a
table of the few names a state dict consists of; any other name in it is an error, and nothing is
imported.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vivavoce.errors import ModelFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float32]"

MAX_PICKLE_BYTES = 64 << 20
LOCAL_HEADER = struct.Struct("<4s22xHH")
STORAGES = {
    "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16", "DoubleStorage": "F64",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip
NUMPY = {
    "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip
BELOW = ("state_dict", "model")
DAMAGE = (
    zipfile.BadZipFile, pickle.UnpicklingError, struct.error, EOFError, KeyError, IndexError,
    TypeError, ValueError, AttributeError, NotImplementedError, UnicodeDecodeError, RuntimeError,
    MemoryError, OverflowError,
)  # fmt: skip
"""What reading a damaged archive or pickle raises."""


@dataclass(frozen=True, slots=True)
class _Storage:
    dtype: str
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """One tensor: which values of which storage it is."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TorchZip:
    """An opened file. Tensors are read one at a time."""

    path: Path
    root: str
    tensors: Mapping[str, TensorPlace]
    entries: Mapping[str, zipfile.ZipInfo]
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def open(cls, path: Path) -> TorchZip:
        """Read the table of tensors. Raises ModelFileError."""
        try:
            with zipfile.ZipFile(path) as archive:
                return cls(path, *_table(archive))
        except OSError as error:
            raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
        except DAMAGE as error:
            raise ModelFileError(
                f"{path} is damaged, truncated, or no state dict of a recent PyTorch: {error}"
            ) from error

    def read(self, name: str) -> Floats:
        """One tensor in float32. Raises ModelFileError for damaged values."""
        place = self.tensors[name]
        try:
            raw = _stored(self.path, self.entries[place.storage.key])
            values = np.frombuffer(raw, NUMPY[place.storage.dtype])
            if len(values) != place.storage.count:
                raise ValueError(f"{len(values)} values of {place.storage.count}")
            return to_float32(_strided(values, place), place.storage.dtype)
        except (OSError, *DAMAGE) as error:
            raise ModelFileError(f"{self.path}: {name} cannot be read: {error}") from error

    def digest(self, names: list[str]) -> str:
        """A checksum of some tensors, from those the archive keeps: no value is read."""
        facts = [
            (name, place, self.entries[place.storage.key].CRC)
            for name, place in sorted(self.tensors.items())
            if name in set(names)
        ]
        return hashlib.sha256(repr(facts).encode()).hexdigest()


def to_float32(values: NDArray[Any], dtype: str) -> Floats:
    """Values as they lie in a file (bfloat16 as its bits) in float32."""
    if dtype == "BF16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values.astype(np.float32)


def _stored(path: Path, entry: zipfile.ZipInfo) -> bytes:
    """The bytes of an uncompressed entry, found without reading the archive's table again."""
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        header = file.read(LOCAL_HEADER.size)
        signature, name_bytes, extra_bytes = LOCAL_HEADER.unpack(header)
        if signature != b"PK\x03\x04":
            raise zipfile.BadZipFile("no entry where one should be")
        file.seek(name_bytes + extra_bytes, io.SEEK_CUR)
        raw = file.read(entry.file_size)
    if len(raw) != entry.file_size or zlib.crc32(raw) != entry.CRC:
        raise zipfile.BadZipFile(f"wrong CRC-32 of {entry.filename}")
    return raw


def _table(
    archive: zipfile.ZipFile,
) -> tuple[str, dict[str, TensorPlace], dict[str, zipfile.ZipInfo], dict[str, tuple[int, ...]]]:
    entries = {entry.filename: entry for entry in archive.infolist()}
    tables = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(tables) != 1:
        raise ValueError("no data.pkl in it")
    root = tables[0].removesuffix("/data.pkl")
    order = archive.read(f"{root}/byteorder") if f"{root}/byteorder" in entries else b"little"
    if order.strip() != b"little":
        raise ValueError("its values are not little-endian")
    if entries[tables[0]].file_size > MAX_PICKLE_BYTES:
        raise ValueError("its table of tensors is too large")
    found = _TableUnpickler(io.BytesIO(archive.read(tables[0]))).load()
    tensors = _tensors(found)
    start = f"{root}/data/"
    held = {name.removeprefix(start): entry for name, entry in entries.items()}
    for name, place in tensors.items():
        entry, item = held[place.storage.key], np.dtype(NUMPY[place.storage.dtype]).itemsize
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed")
        if entry.file_size != place.storage.count * item:
            raise ValueError(f"{name} has {entry.file_size} bytes")
    return root, tensors, held, {name: place.shape for name, place in tensors.items()}


def _tensors(found: Any) -> dict[str, TensorPlace]:
    """The tensors of a state dict, which may lie below one of ``BELOW`` in what was saved; a tensor
    that was saved by itself has no name."""
    if isinstance(found, TensorPlace):
        return {"": found}
    for name in BELOW:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping):
        raise ValueError("it holds no state dict")
    return {str(name): place for name, place in found.items() if isinstance(place, TensorPlace)}


def _strided(values: NDArray[Any], place: TensorPlace) -> NDArray[Any]:
    steps = [
        size * step
        for size, step in zip(values.strides * len(place.stride), place.stride, strict=True)
    ]
    return np.lib.stride_tricks.as_strided(
        values[place.offset :], place.shape, steps, writeable=False
    )


def _tensor(storage: Any, offset: int, shape: Any, stride: Any, *_: Any) -> TensorPlace:
    """Stands for ``torch._utils._rebuild_tensor_v2``; checks that the tensor is in its storage."""
    place = TensorPlace(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))
    if not isinstance(storage, _Storage) or len(place.shape) != len(place.stride):
        raise pickle.UnpicklingError("a tensor without a storage")
    if min((place.offset, *place.shape, *place.stride)) < 0:
        raise pickle.UnpicklingError("a tensor of negative size")
    reach = sum((size - 1) * step for size, step in zip(place.shape, place.stride, strict=True))
    if prod(place.shape) and place.offset + reach >= storage.count:
        raise pickle.UnpicklingError("a tensor beyond its storage")
    return place


def _parameter(place: Any, *_: Any) -> Any:
    """Stands for ``torch._utils._rebuild_parameter``."""
    return place


_NAMES: Mapping[tuple[str, str], Callable[..., Any] | str] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): dtype for name, dtype in STORAGES.items()},
}


class _TableUnpickler(pickle.Unpickler):
    """Knows the names of ``_NAMES`` and no other."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count = pid
        if kind != "storage" or dtype not in NUMPY:
            raise pickle.UnpicklingError(f"it refers to {kind!r}")
        return _Storage(dtype, str(key), int(count))
