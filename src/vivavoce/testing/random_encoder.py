"""Encoders with random weights in the published layout, for tests, benchmarks and checks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch

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
from vivavoce.runtime.torch_zip import Floats
from vivavoce.testing.random_neucodec import random_tensor
from vivavoce.testing.torch_zip_writing import write_torch_zip

TINY_FULL = FullShape(4, 32, 32, ConformerShape(hidden=32, intermediate=64, heads=2))
TINY_SMALL = SmallShape(
    DistilledShape(widths=(4, 8, 8, 16), hidden=32), 32, 32, 32, HubertShape(32, 64, 64, 1)
)
SPREAD = (".project_in.weight",)
"""Scaled up, so that recordings differ in their codes."""


def make_random_encoder(
    path: Path | str, kind: Literal["full", "distilled"], *, tiny: bool = False, seed: int = 0
) -> Path:
    """Write a state dict with the codec's encoder and its semantic model (full size: 1.8 GB for
    ``full``, 0.2 GB for ``distilled``; tiny: 1 MB). Raises ModelFileError where it cannot."""
    path = Path(path)
    with torch.device("meta"):
        module: torch.nn.Module
        if kind == "full":
            module = FullEncoder(TINY_FULL if tiny else FullShape())
        else:
            module = DistilledEncoder(TINY_SMALL if tiny else SmallShape())
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_torch_zip(path, _tensors(shapes, seed), shapes)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _tensors(shapes: dict[str, tuple[int, ...]], seed: int) -> Iterator[tuple[str, Floats]]:
    for name, shape in shapes.items():
        values = random_tensor(name, shape, seed)
        if name.endswith((".alpha", ".beta")) and len(shape) == 1:
            values -= 1
        elif name.endswith(SPREAD):
            values *= 3
        yield name, values
