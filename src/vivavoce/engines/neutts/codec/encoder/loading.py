"""Encoders from the published checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn

from vivavoce.engines.neutts.codec.encoder.distilled import DistilledShape
from vivavoce.engines.neutts.codec.encoder.hubert import HubertShape
from vivavoce.engines.neutts.codec.encoder.modules import (
    DistilledEncoder,
    FullEncoder,
    FullShape,
    SmallShape,
)
from vivavoce.engines.neutts.codec.encoder.w2v_bert import ConformerShape
from vivavoce.errors import ModelFileError
from vivavoce.runtime.checkpoint import WeightFile, fused, open_weights, some
from vivavoce.runtime.torch_zip import Floats

SEMANTIC = "semantic_model."
OTHER_PREFIXES = (SEMANTIC, "", "wav2vec2_bert.", "hubert.")
"""Before the semantic model's names: in the codec's file, and in files of its own."""
NORMS = (
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)


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
        told = some(faults, "; ")
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


ShapeOf: TypeAlias = Callable[[str], tuple[int, ...]]
"""The shape of a tensor by the module's name for it; raises KeyError where there is none."""

HUBERT_HEAD = 64


def full_shape(shape_of: ShapeOf) -> FullShape:
    """Of ``neucodec``'s encoder. Raises KeyError."""
    projection = shape_of(f"{SEMANTIC}feature_projection.projection.weight")
    layer = f"{SEMANTIC}encoder.layers.0"
    head = shape_of(f"{layer}.self_attn.distance_embedding.weight")[1]
    return FullShape(
        first=shape_of("CodecEnc.conv_blocks.0.bias")[0],
        hidden=shape_of("CodecEnc.conv_final_block.1.bias")[0],
        quantizer=shape_of("fc_prior.bias")[0],
        semantic=ConformerShape(
            features=projection[1],
            hidden=projection[0],
            intermediate=shape_of(f"{layer}.ffn1.intermediate_dense.bias")[0],
            heads=projection[0] // head,
        ),
    )


def small_shape(shape_of: ShapeOf) -> SmallShape:
    """Of ``distill-neucodec``'s encoder. Raises KeyError."""
    projection = shape_of(f"{SEMANTIC}feature_projection.projection.weight")
    blocks = "codec_encoder.encoder.blocks"
    widths = [shape_of(f"{blocks}.0.conv_2.bias")[0]]
    widths += [shape_of(f"{blocks}.{number}.0.bias")[0] for number in (2, 4, 6)]
    return SmallShape(
        acoustic=DistilledShape(widths=tuple(widths), hidden=shape_of(f"{blocks}.8.bias")[0]),
        joined=shape_of("fc_sq_prior.bias")[0],
        quantizer=shape_of("fc_prior.bias")[0],
        semantic_channels=shape_of("SemanticEncoder_module.residual_blocks.1.bias")[0],
        semantic=HubertShape(
            channels=projection[1],
            hidden=projection[0],
            intermediate=shape_of(
                f"{SEMANTIC}encoder.layers.0.feed_forward.intermediate_dense.bias"
            )[0],
            heads=projection[0] // HUBERT_HEAD,
        ),
    )
