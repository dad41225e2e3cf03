"""Codecs with random weights in the published layouts, for tests, benchmarks and checks.

They load wherever a published one does and make a hiss that its codes colour, at about -25 dB,
neither silent nor clipped. Scales follow each layer's number of inputs, so that what int8 costs
is measured on values of an ordinary spread.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod, sqrt
from pathlib import Path
from zlib import crc32

import numpy as np

from vivavoce.engines.neutts.codec.network import (
    BINS,
    HEAD,
    TINY,
    DecoderShape,
    Shape,
    tensor_shapes,
)
from vivavoce.errors import ModelFileError
from vivavoce.runtime.safetensors_file import writing
from vivavoce.runtime.torch_zip import Floats
from vivavoce.testing.torch_zip_writing import write_torch_zip

WRITERS = (".c_proj.weight", ".fc2.weight", ".conv2.weight")
"""What adds to the network's hidden state; scaled down, so that the sum keeps its size."""
WRITER_GAIN = 0.3
MAGNITUDE_GAIN, PHASE_GAIN = 0.5, 1.5
LOUDNESS = 2.5
"""Log magnitude of the lowest bins; the highest lie ``TILT`` below it."""
TILT = 4.0


def make_random_codec(path: Path | str, *, tiny: bool = False, seed: int = 0) -> Path:
    """Write a random decoder; the suffix of ``path`` says in which layout.

    ``.bin`` is a state dict as torch saves it, ``.safetensors`` the same tensors, ``.onnx`` a graph
    with the published one's input and output. ``tiny`` keeps everything but the widths and the
    number of layers (4 to 12 MB in place of 770). The same seed gives the same weights in every
    layout. Returns the path; raises ModelFileError where it cannot be written.
    """
    path = Path(path)
    shapes = tensor_shapes(TINY if tiny else DecoderShape())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".onnx":
            _write_onnx(path, shapes, seed)
        elif path.suffix == ".safetensors":
            _write_safetensors(path, shapes, seed)
        else:
            write_torch_zip(path, random_tensors(shapes, seed), shapes)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def random_tensors(shapes: dict[str, Shape], seed: int) -> Iterator[tuple[str, Floats]]:
    """Names and values; those of a tensor depend on its name, shape and the seed alone."""
    for name, shape in shapes.items():
        yield name, random_tensor(name, shape, seed)


def random_tensor(name: str, shape: Shape, seed: int) -> Floats:
    """The values of one tensor, float32."""
    rng = np.random.Generator(np.random.SFC64([seed, crc32(name.encode())]))
    values = rng.standard_normal(shape, dtype=np.float32)
    if len(shape) == 1:
        return _vector(name, values)
    values *= np.float32(_gain(name) / sqrt(prod(shape[1:])))
    if name == f"{HEAD}.weight":
        values[:BINS] *= MAGNITUDE_GAIN
        values[BINS:] *= PHASE_GAIN
    return values


def _vector(name: str, values: Floats) -> Floats:
    if name == f"{HEAD}.bias":
        tilt = LOUDNESS - TILT * np.linspace(0, 1, BINS)
        return np.concatenate([tilt, values[BINS:]]).astype(np.float32)
    if name.endswith(".bias"):
        return values * np.float32(0.02)
    return values * np.float32(0.1) + np.float32(1.0)


def _gain(name: str) -> float:
    return WRITER_GAIN if name.endswith(WRITERS) else 1.0


def _write_safetensors(path: Path, shapes: dict[str, Shape], seed: int) -> None:
    with writing(path, {name: ("F32", shape) for name, shape in shapes.items()}) as file:
        for _, values in random_tensors(shapes, seed):
            file.write(values.astype("<f4", copy=False).tobytes())


def _write_onnx(path: Path, shapes: dict[str, Shape], seed: int) -> None:
    from vivavoce.engines.neutts.codec.network import read_shape
    from vivavoce.engines.neutts.codec.onnx_graph import write_single_file

    write_single_file(
        path, read_shape(shapes), lambda name: random_tensor(name, shapes[name], seed)
    )
