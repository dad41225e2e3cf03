"""Encoders from the published checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from vivavoce.engines.neutts.codec.encoder.modules import (
    DistilledEncoder,
    FullEncoder,
)
from vivavoce.engines.neutts.codec.encoder.sizes import full_shape, small_shape
from vivavoce.engines.neutts.codec.weights import WeightFile, fused, open_weights
from vivavoce.errors import ModelFileError
from vivavoce.runtime.torch_zip import Floats

SEMANTIC = "semantic_model."
OTHER_PREFIXES = (SEMANTIC, "", "wav2vec2_bert.", "hubert.")
"""Before the semantic model's names: in the codec's file, and in files of its own."""
NORMS = (
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)
NAMED_FAULTS = 6


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a parameter is: in which file, under which name before ``.weight`` or ``.bias``."""

    file: WeightFile
    name: str

    def there(self) -> bool:
        """Whether the file has it, plain or as a weight norm."""
        shapes = self.file.shapes
        return self.name in shapes or any(name in shapes for _, name in self._norms())

    def read(self) -> Floats:
        """Its values; a weight norm counts before a plain weight, as when it was trained."""
        for length, direction in self._norms():
            if direction in self.file.shapes and length in self.file.shapes:
                return fused(self.file.read(length), self.file.read(direction))
        return self.file.read(self.name)

    def shape(self) -> tuple[int, ...]:
        """Its sizes, first dimension first, without reading the values."""
        held = (name for _, name in self._norms() if name in self.file.shapes)
        return self.file.shapes[next(iter(held), self.name)]

    def _norms(self) -> Iterable[tuple[str, str]]:
        if not self.name.endswith(".weight"):
            return ()
        at = self.name.removesuffix(".weight")
        return [(at + length, at + direction) for length, direction in NORMS]


def open_encoder(
    codec: Path | str, semantic: Path | str | None = None, device: str = "cpu"
) -> FullEncoder | DistilledEncoder:
    """Load the encoder that a codec's checkpoint (file or folder) holds, full or distilled.

    ``semantic`` is the checkpoint of ``facebook/w2v-bert-2.0`` or ``ntu-spml/distilhubert``, where
    the codec's own does not hold that model. Of w2v-BERT only the layers that count are read.
    Raises ModelFileError that names what is missing or of a wrong shape.
    """
    files = [open_weights(codec)]
    if semantic is not None:
        files.append(open_weights(semantic))
    with torch.device("meta"):
        module = _kind(files)
    _fill(module, files)
    return module.to(device).eval()


def _kind(files: Sequence[WeightFile]) -> FullEncoder | DistilledEncoder:
    """The module that fits, without weights. Raises ModelFileError."""

    def shape_of(name: str) -> tuple[int, ...]:
        source = _find(name, files)
        if source is None:
            raise KeyError(name)
        return source.shape()

    names, path = files[0].shapes, files[0].path
    try:
        if any(name.startswith("CodecEnc.") for name in names):
            return FullEncoder(full_shape(shape_of))
        if any(name.startswith("codec_encoder.") for name in names):
            return DistilledEncoder(small_shape(shape_of))
    except (KeyError, IndexError) as error:
        raise ModelFileError(f"{path} is not a NeuCodec encoder's: no {error}.") from error
    raise ModelFileError(f"{path} holds no NeuCodec encoder.")


def _fill(module: nn.Module, files: Sequence[WeightFile]) -> None:
    """Put every parameter in its place. Raises ModelFileError."""
    faults = []
    for name, parameter in list(module.named_parameters()):
        source = _find(name, files)
        if source is None:
            faults.append(f"{name} is missing")
            continue
        values = source.read()
        if values.shape != parameter.shape:
            faults.append(f"{name} is {list(values.shape)}, not {list(parameter.shape)}")
            continue
        at, _, last = name.rpartition(".")
        loaded = nn.Parameter(torch.from_numpy(values), requires_grad=False)
        setattr(module.get_submodule(at), last, loaded)
    if faults:
        more = f" and {len(faults) - NAMED_FAULTS} more" if len(faults) > NAMED_FAULTS else ""
        told = "; ".join(faults[:NAMED_FAULTS]) + more
        raise ModelFileError(f"{files[0].path} is not a NeuCodec encoder's: {told}.")


def _find(name: str, files: Sequence[WeightFile]) -> _Source | None:
    if not name.startswith(SEMANTIC):
        source = _Source(files[0], name)
        return source if source.there() else None
    for file in files:
        for prefix in OTHER_PREFIXES:
            source = _Source(file, prefix + name.removeprefix(SEMANTIC))
            if source.there():
                return source
    return None
