"""Each matrix of a frame: error against float64, milliseconds, and its share of the bandwidth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vivavoce.bench.engine.clock import copy_gb_s, median_ms
from vivavoce.bench.engine.setting import Setting, Told
from vivavoce.engines.kernels.chooser import Kernels, Path, chosen
from vivavoce.engines.kernels.linear import Norm
from vivavoce.engines.layers.decoder import DecoderShape
from vivavoce.engines.layers.weights import Precision, Weight, quantise
from vivavoce.engines.qwen3.code_predictor import decoder_shape
from vivavoce.engines.qwen3.config import Qwen3Config

MOST_ROWS = 16
ENOUGH_BYTES = 256 * 2**20
"""Weights rotate through so much, so that no cache holds them."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A matrix of ``n`` outputs (twice where ``gated``) and ``k`` inputs, behind a norm or not."""

    name: str
    n: int
    k: int
    normed: bool = False
    gated: bool = False


def measure_kernels(setting: Setting) -> Told:
    """Those the device is given, beside plain PyTorch where these are others."""
    device = torch.device(setting.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    bandwidth, kernels = copy_gb_s(device, tiny=setting.tiny), chosen(device, dtype)
    rows = []
    for projection in projections(Qwen3Config.load(setting.folder)):
        for precision in map(Precision, setting.precisions):
            for count in (rows for rows in setting.rows if rows <= MOST_ROWS):
                case = _Case(projection, precision, count, device, dtype)
                rows.append(case.measured(kernels, bandwidth, setting))
    return {"path": str(kernels.path), "why": kernels.why, "copy_gb_s": bandwidth, "rows": rows}


def projections(config: Qwen3Config) -> Iterator[Projection]:
    """Every matrix that a frame reads."""
    talker, predictor = config.talker, config.talker.code_predictor
    for name, each in (("talker", talker), ("predictor", predictor)):
        shape = decoder_shape(each)
        yield from _of_layer(name, shape)
        yield Projection(f"{name} head", each.vocab_size, shape.hidden, normed=True)


def _of_layer(name: str, shape: DecoderShape) -> Iterator[Projection]:
    inner = shape.heads * shape.head_dim
    every = inner + 2 * shape.kv_heads * shape.head_dim
    yield Projection(f"{name} qkv", every, shape.hidden, normed=True)
    yield Projection(f"{name} out", shape.hidden, inner)
    yield Projection(f"{name} gate", shape.intermediate, shape.hidden, normed=True, gated=True)
    yield Projection(f"{name} down", shape.hidden, shape.intermediate)


class _Case:
    def __init__(
        self,
        what: Projection,
        precision: Precision,
        rows: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        torch.manual_seed(0)
        self._what, self._precision, self._device = what, precision, device
        self._x = torch.randn(rows, what.k, device=device).to(dtype)
        self._norm = Norm(torch.ones(what.k, device=device).to(dtype), 1e-6)
        self._dtype = dtype

    @torch.inference_mode()
    def measured(self, kernels: Kernels, bandwidth: float, setting: Setting) -> Told:
        """One line of the report."""
        first = self._weight()
        copies = 2 if setting.tiny else max(2, ENOUGH_BYTES // first.nbytes)
        weights = [first, *(self._weight() for _ in range(copies - 1))]
        told = {"name": self._what.name, "precision": str(self._precision), "rows": len(self._x)}
        plain = chosen(self._device, self._dtype, Path.TORCH)
        paths = {"": kernels} if kernels.path is Path.TORCH else {"": kernels, "plain_": plain}
        for prefix, each in paths.items():
            works = [lambda w=weight, k=each: self._run(k, w) for weight in weights]
            ms = median_ms(works, self._device, 3)
            told[f"{prefix}ms"] = round(ms, 5)
            told[f"{prefix}of_copy"] = round(first.nbytes / ms / 1e6 / bandwidth, 3)
            told[f"{prefix}error"] = self._error(self._run(each, first), first)
        return told

    def _weight(self) -> Weight:
        count = self._what.n * (2 if self._what.gated else 1)
        matrix = torch.randn(count, self._what.k, device=self._device) / self._what.k**0.5
        return quantise(matrix.to(self._dtype), self._precision)

    def _run(self, kernels: Kernels, weight: Weight) -> Tensor:
        norm = self._norm if self._what.normed else None
        if self._what.gated:
            return kernels.gated(self._x, weight, norm)
        return kernels.linear(self._x, weight, norm)

    def _error(self, got: Tensor, weight: Weight) -> float:
        """The largest difference from float64, in parts of the largest value."""
        x = (self._norm(self._x) if self._what.normed else self._x).double()
        exact = x @ weight.restored(torch.float64).T
        if self._what.gated:
            gate, up = exact.chunk(2, -1)
            exact = functional.silu(gate) * up
        return float((got.double() - exact).abs().max() / exact.abs().max())
