"""The decoder's graph on disk: written once from a checkpoint, kept beside it, used ever after.

A folder holds ``decoder.onnx`` (nodes) and ``weights.bin`` (arrays, one after another), so that
writing needs the memory of one tensor and ONNX Runtime maps the arrays instead of copying them.
Its name tells the weights' checksum, the precision and ``LAYOUT``; it appears under that name when
it is whole.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from onnx import TensorProto, helper

from vivavoce.engines.neutts.codec.network import DecoderWeights
from vivavoce.engines.neutts.codec.onnx_graph import Precision, Quantized, decoder_graph
from vivavoce.engines.neutts.codec.onnx_nodes import Array, inside
from vivavoce.runtime.derived_files import cache_root, derived_folder
from vivavoce.runtime.hub import is_in_client_cache

LAYOUT = 1
"""Raised whenever the written graph changes."""
GRAPH, WEIGHTS, SIZES = "decoder.onnx", "weights.bin", "sizes"
INSIDE_BYTES = 1024
PAGE_BYTES = 4096
X86 = ("x86_64", "amd64", "i386", "i686")
VNNI = ("avx512_vnni", "avx_vnni")


def adds_in_32_bits() -> bool:
    """Whether this processor multiplies uint8 by int8 without overflow (see ``Quantized``)."""
    if platform.machine().lower() not in X86:
        return True
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(name in told for name in VNNI)


@contextmanager
def graph_file(
    weights: DecoderWeights, precision: Precision, cache: Path | None = None
) -> Iterator[Path]:
    """The path of the graph; made where it is not there. It may be gone afterwards.

    Kept beside the checkpoint, where that cannot be written in ``cache`` (default: the configured
    cache folder), and else not at all, with a warning. Raises ModelFileError for damaged weights.
    """
    quantized = Quantized.of(precision, unsigned=not adds_in_32_bits())
    kind = precision + "-unsigned" * (quantized.layers and quantized.unsigned)
    name = f".neucodec-{weights.digest()[:16]}-{kind}-v{LAYOUT}"
    beside = weights.file.path.resolve().parent
    others = () if is_in_client_cache(beside) else (beside,)
    homes = (*others, (cache or cache_root()) / "neutts")
    with derived_folder(
        "The codec's graph",
        [home / name for home in homes],
        lambda folder: folder / GRAPH if _is_whole(folder) else None,
        lambda folder: write_graph(folder, weights, quantized),
    ) as graph:
        yield graph


def write_graph(folder: Path, weights: DecoderWeights, quantized: Quantized) -> None:
    """Write the two files and their sizes into an empty folder. Raises OSError, ModelFileError."""
    with (folder / WEIGHTS).open("wb") as file:
        model = decoder_graph(weights.shape, weights.read, _Beside(file).store, quantized)
    (folder / GRAPH).write_bytes(model.SerializeToString())
    (folder / SIZES).write_text(_sizes(folder), encoding="utf-8")


class _Beside:
    """Stores large arrays in a file, small ones in the graph."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def store(self, name: str, array: Array) -> TensorProto:
        """An initializer for ``array``."""
        if array.nbytes <= INSIDE_BYTES:
            return inside(name, array)
        self._file.write(bytes(-self._file.tell() % PAGE_BYTES))
        tensor = TensorProto(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        told = {"location": WEIGHTS, "offset": self._file.tell(), "length": array.nbytes}
        for key, value in told.items():
            tensor.external_data.add(key=key, value=str(value))
        self._file.write(np.ascontiguousarray(array).data)
        return tensor


def _is_whole(folder: Path) -> bool:
    try:
        return (folder / SIZES).read_text(encoding="utf-8") == _sizes(folder)
    except OSError:
        return False


def _sizes(folder: Path) -> str:
    return " ".join(str((folder / name).stat().st_size) for name in (GRAPH, WEIGHTS))
