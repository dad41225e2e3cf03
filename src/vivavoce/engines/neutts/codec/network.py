"""NeuCodec's decoder, without a runtime: its network by the names of its tensors, and its formulas.

``generator.quantizer.project_out`` (8 to 2048), ``fc_post_a`` (2048 to 1024), a convolution of 7,
two residual blocks of convolutions, 12 transformer blocks without positions, two residual blocks, a
layer norm, and ``generator.head.out`` to 961 log magnitudes and 961 phases. (The published code
rotates queries and keys by their head, not by their time, which alters no product: left out.)

Before it is finite scalar quantization (Mentzer et al., ICLR 2024): a code is eight digits of base
4. Codes are those of ``vector-quantize-pytorch``'s ``ResidualFSQ`` with eight levels of 4 and one
quantizer, which bounds its input twice.

Behind it is the inverse short-time Fourier transform, in matrices and in numpy. Frames of 1,920
(periodic Hann window) at a hop of 480, overlapped, divided by the windows' energy there, and cut by
720 on both sides ("same" padding): T frames make 480 * T samples. Vocos (Siuzdak 2023) describes
the head this belongs to. A real frame is the sum of a part that is even around its middle and one
that is odd, and half of each tells the rest: two matrices of 961 x 961 do what one of 1,922 x 1,920
would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivavoce.engines.neutts.codec.stream import CODEBOOK_SIZE, HOP, Codes
from vivavoce.errors import InputError, ModelFileError
from vivavoce.runtime.checkpoint import WeightFile, fused, in_words, open_weights
from vivavoce.runtime.torch_zip import Floats

LEVELS = 4
DIGITS = 8
BASIS = np.array([LEVELS**i for i in range(DIGITS)], np.int32)
"""What each digit counts, the lowest first."""

_HALF = LEVELS // 2
_BOUND_MARGIN = 1e-3
_OFFSET = 0.5


def checked_codes(codes: Codes) -> Codes:
    """Codes as (T,) int32, T >= 1. Raises InputError for others."""
    array = np.asarray(codes)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"Codes are (T,) integers, not {array.shape} of {array.dtype}.")
    if not len(array):
        raise InputError("There are no codes to decode.")
    if array.min() < 0 or array.max() >= CODEBOOK_SIZE:
        raise InputError(f"Codes are 0 to {CODEBOOK_SIZE - 1}, not {array.min()} to {array.max()}.")
    return array.astype(np.int32, copy=False)


def code_vectors(codes: Codes) -> NDArray[np.float32]:
    """Codes (T,) to what they stand for, (T, 8) of -1, -0.5, 0 and 0.5."""
    digits = codes[:, None] // BASIS % LEVELS
    return ((digits - _HALF) / _HALF).astype(np.float32)


def nearest_codes(vectors: NDArray[np.float32]) -> Codes:
    """Projected encoder output (T, 8), unbounded, to codes (T,)."""
    digits = np.rint(_bounded(_bounded(vectors.astype(np.float32)))) + _HALF
    codes: Codes = (digits.astype(np.int32) * BASIS).sum(-1, dtype=np.int32)
    return codes


def _bounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squeezed to (-2, 1), so that rounding gives -2 to 1; in float32, as it was trained."""
    half = np.float32((LEVELS - 1) * (1 + _BOUND_MARGIN) / 2)
    shift = np.arctanh(np.float32(_OFFSET) / half)
    return np.tanh(values + shift) * half - np.float32(_OFFSET)


FRAME = 4 * HOP
BINS = FRAME // 2 + 1
CUT = (FRAME - HOP) // 2
MAX_MAGNITUDE = 1e2
"""Magnitudes are the exponential of what the network says, at most this."""


def hann() -> NDArray[np.float64]:
    """The periodic Hann window, (1920,)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)


def half_bases() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two (961, 961), bins by samples 0..960 of a windowed frame.

    Real parts times the first is the even half, imaginary parts times the second the odd half:
    sample n is even + odd, and sample 1920 - n is even - odd.
    """
    weight = np.full((BINS, 1), 2.0 / FRAME)
    weight[[0, -1]] = 1.0 / FRAME
    # k * n modulo the period, so that the angle is exact.
    angle = 2 * np.pi / FRAME * (np.outer(np.arange(BINS), np.arange(BINS)) % FRAME)
    window = hann()[:BINS]
    return weight * np.cos(angle) * window, -weight * np.sin(angle) * window


def istft(real: NDArray[np.float64], imaginary: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spectra (T, 961) each to samples (480 * T,), plainly written out."""
    frames = np.fft.irfft(real + 1j * imaginary, FRAME) * hann()
    total = np.zeros((len(frames) - 1) * HOP + FRAME)
    energy = np.zeros_like(total)
    for number, frame in enumerate(frames):
        at = slice(number * HOP, number * HOP + FRAME)
        total[at] += frame
        energy[at] += hann() ** 2
    return (total / np.where(energy > 0, energy, 1))[CUT:-CUT]


Shape: TypeAlias = tuple[int, ...]

HEAD_DIM = 64
GROUPS = 32
EPSILON = 1e-6
"""Of every norm in the network."""
EMBED_KERNEL = 7
BLOCK_KERNEL = 3
RESIDUAL_BLOCKS = 2

BACKBONE = "generator.backbone"
QUANTIZER = "generator.quantizer.project_out"
POST = "fc_post_a"
HEAD = "generator.head.out"


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The sizes that may differ; these are the published ones."""

    hidden: int = 1024
    quantizer: int = 2048
    mlp: int = 4096
    depth: int = 12

    @property
    def heads(self) -> int:
        """Attention heads of 64."""
        return self.hidden // HEAD_DIM


TINY = DecoderShape(hidden=128, quantizer=32, mlp=256, depth=2)
"""For tests: the same network in 4 MB."""


def tensor_shapes(shape: DecoderShape) -> dict[str, Shape]:
    """Every tensor the decoder needs, by its published name."""
    hidden = shape.hidden
    shapes = _linear(QUANTIZER, DIGITS, shape.quantizer) | _linear(POST, shape.quantizer, hidden)
    shapes |= _convolution(f"{BACKBONE}.embed", hidden, EMBED_KERNEL)
    for net in ("prior_net", "post_net"):
        for block in range(RESIDUAL_BLOCKS):
            at = f"{BACKBONE}.{net}.{block}"
            for number in (1, 2):
                shapes |= _norm(f"{at}.norm{number}", hidden)
                shapes |= _convolution(f"{at}.conv{number}", hidden, BLOCK_KERNEL)
    for layer in range(shape.depth):
        shapes |= _transformer(f"{BACKBONE}.transformers.{layer}", shape)
    return shapes | _norm(f"{BACKBONE}.final_layer_norm", hidden) | _linear(HEAD, hidden, 2 * BINS)


def read_shape(shapes: Mapping[str, Shape]) -> DecoderShape:
    """The sizes of the decoder among the tensors of a file. Raises KeyError or IndexError where
    the tensors that tell them are not there."""
    quantizer, hidden = shapes[f"{POST}.weight"][1], shapes[f"{POST}.weight"][0]
    mlp = shapes[f"{BACKBONE}.transformers.0.mlp.fc1.weight"][0]
    start, end = f"{BACKBONE}.transformers.", ".att_norm.weight"
    depth = sum(name.startswith(start) and name.endswith(end) for name in shapes)
    return DecoderShape(hidden, quantizer, mlp, depth)


def _linear(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _convolution(name: str, channels: int, kernel: int) -> dict[str, Shape]:
    return {f"{name}.weight": (channels, channels, kernel), f"{name}.bias": (channels,)}


def _norm(name: str, size: int) -> dict[str, Shape]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _transformer(at: str, shape: DecoderShape) -> dict[str, Shape]:
    hidden = shape.hidden
    return {
        f"{at}.att_norm.weight": (hidden,),
        f"{at}.ffn_norm.weight": (hidden,),
        f"{at}.att.c_attn.weight": (3 * hidden, hidden),
        f"{at}.att.c_proj.weight": (hidden, hidden),
        f"{at}.mlp.fc1.weight": (shape.mlp, hidden),
        f"{at}.mlp.fc2.weight": (hidden, shape.mlp),
    }


OTHER_QUANTIZER = "generator.quantizer.fsqs.0.project_out"
"""What some exports call ``generator.quantizer.project_out``."""
OURS = (BACKBONE, HEAD, POST)


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    """All tensors of ``network.tensor_shapes(shape)``, read one at a time in float32."""

    file: WeightFile
    shape: DecoderShape
    places: Mapping[str, str]

    def read(self, name: str) -> Floats:
        """A tensor by its published name. Raises ModelFileError for damaged values.

        Where only a weight norm's direction and length are in the file (Salimans & Kingma 2016),
        they are multiplied out.
        """
        at = self.places[name]
        if at in self.file.shapes:
            values = self.file.read(at)
        else:
            values = fused(self.file.read(f"{at}_g"), self.file.read(f"{at}_v"))
        if not np.isfinite(values).all():
            raise ModelFileError(f"{self.file.path}: {name} holds values that are not numbers.")
        return values

    def digest(self) -> str:
        """A checksum that tells versions of the weights apart."""
        held = self.file.shapes
        return self.file.digest([at for at in self.places.values() if at in held])


def open_decoder(path: Path | str) -> DecoderWeights:
    """Open the decoder in a checkpoint (file or folder); encoder tensors are left alone.

    Raises ModelFileError that names what is missing, unexpected or of a wrong shape.
    """
    file = open_weights(path)
    held = _held_shapes(file.shapes)
    try:
        shape = read_shape(held)
    except (KeyError, IndexError) as error:
        raise ModelFileError(f"{file.path} holds no NeuCodec decoder: no {error}.") from error
    expected = tensor_shapes(shape)
    if faults := _faults(held, expected):
        raise ModelFileError(f"{file.path} is not a NeuCodec decoder's: {faults}.")
    return DecoderWeights(file, shape, {name: _place(name, file.shapes) for name in expected})


def _held_shapes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes by published names, weight norms under the name of their weight."""
    held: dict[str, Shape] = {}
    for name, shape in shapes.items():
        plain = name.replace(OTHER_QUANTIZER, QUANTIZER)
        if plain.endswith(".weight_v") and name.removesuffix("v") + "g" in shapes:
            held.setdefault(plain.removesuffix("_v"), shape)
        elif not plain.endswith((".weight_v", ".weight_g")) and ".rotary_embed." not in plain:
            held[plain] = shape
    return held


def _place(name: str, shapes: Mapping[str, Shape]) -> str:
    other = name.replace(QUANTIZER, OTHER_QUANTIZER)
    return other if other in shapes or f"{other}_v" in shapes else name


def _faults(held: Mapping[str, Shape], expected: Mapping[str, Shape]) -> str:
    missing = [name for name in expected if name not in held]
    extra = [name for name in held if name.startswith(OURS) and name not in expected]
    wrong = [
        f"{name} is {list(held[name])}, not {list(shape)}"
        for name, shape in expected.items()
        if name in held and held[name] != shape
    ]
    if rest := expected[f"{HEAD}.weight"][1] % HEAD_DIM:
        wrong.append(f"the width leaves {rest} over heads of {HEAD_DIM}")
    return in_words({"missing": missing, "unexpected": extra, "wrong shape:": wrong})
