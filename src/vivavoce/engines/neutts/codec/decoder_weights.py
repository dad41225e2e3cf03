"""The decoder's tensors out of a published checkpoint, checked before any is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vivavoce.engines.neutts.codec.network import (
    BACKBONE,
    HEAD,
    HEAD_DIM,
    POST,
    QUANTIZER,
    DecoderShape,
    Shape,
    read_shape,
    tensor_shapes,
)
from vivavoce.engines.neutts.codec.weights import WeightFile, fused, open_weights
from vivavoce.errors import ModelFileError
from vivavoce.runtime.torch_zip import Floats

OTHER_QUANTIZER = "generator.quantizer.fsqs.0.project_out"
"""What some exports call ``generator.quantizer.project_out``."""
OURS = (BACKBONE, HEAD, POST)
NAMED_FAULTS = 6


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
    told = (("missing", missing), ("unexpected", extra), ("wrong shape:", wrong))
    return "; ".join(f"{what} {_some(names)}" for what, names in told if names)


def _some(names: list[str]) -> str:
    more = len(names) - NAMED_FAULTS
    return ", ".join(names[:NAMED_FAULTS]) + (f" and {more} more" if more > 0 else "")
