"""Each kernel of a frame: error, milliseconds, GB/s, and how often a frame launches it.

From one run follows what a frame loses: launches times milliseconds are its time if nothing ran
beside anything, bytes over the bandwidth the least it could take, and a launch that does next to
nothing costs what it costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vivavoce.bench.engine.clock import copy_gb_s, median_ms
from vivavoce.bench.engine.other_kernels import other_kernels
from vivavoce.bench.engine.setting import Setting, Told
from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.talker import decoder_shape
from vivavoce.runtime.kernels.dispatch import Kernels, Path, chosen
from vivavoce.runtime.kernels.linear import Norm
from vivavoce.runtime.nn.decoder import DecoderShape
from vivavoce.runtime.nn.weights import Precision, Weight, quantize

MOST_ROWS = 16
ENOUGH_BYTES = 256 * 2**20
"""Weights rotate through so much, so that no cache holds them."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A matrix of ``n`` outputs (twice where ``gated``) and ``k`` inputs, behind a norm or not.

    A frame launches it ``launches`` times.
    """

    name: str
    n: int
    k: int
    launches: int
    normed: bool = False
    gated: bool = False
    silu: bool = False


def measure_kernels(setting: Setting) -> Told:
    """Those the device is given, beside plain PyTorch where these are others."""
    device = torch.device(setting.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    bandwidth, kernels = copy_gb_s(device, tiny=setting.tiny), chosen(device, dtype)
    config = Qwen3Config.load(setting.folder)
    rows: list[Told] = []
    others: list[Told] = []
    for count in (rows for rows in setting.rows if rows <= MOST_ROWS):
        for projection in projections(config):
            for precision in map(Precision, setting.precisions):
                case = _Case(projection, precision, count, device, dtype)
                rows.append(case.measured(kernels, bandwidth, setting))
        others += other_kernels(config, kernels, count, device, dtype)
    return {
        "path": str(kernels.path),
        "why": kernels.why,
        "copy_gb_s": bandwidth,
        "launches_a_frame": _launches(config, others),
        "frame_ms": _whole_frames(rows, others, bandwidth),
        "rows": rows,
        "others": others,
    }


def _launches(config: Qwen3Config, others: list[Told]) -> int:
    alike = [each for each in others if each["rows"] == others[0]["rows"]] if others else []
    return sum(each.launches for each in projections(config)) + sum(
        each["launches"] for each in alike
    )


def _whole_frames(rows: list[Told], others: list[Told], bandwidth: float) -> list[Told]:
    """All launches of a frame one after the other, against the bytes they read."""
    told = []
    kinds = sorted({(each["precision"], each["rows"]) for each in rows})
    for precision, count in kinds:
        own = [each for each in rows if (each["precision"], each["rows"]) == (precision, count)]
        own += [each for each in others if each["rows"] == count]
        ms = sum(each["ms"] * each["launches"] for each in own)
        floor_ms = sum(each["bytes"] * each["launches"] for each in own) / bandwidth / 1e6
        told.append(
            {
                "precision": precision,
                "rows": count,
                "sum": round(ms, 3),
                "floor": round(floor_ms, 3),
                "plain_sum": round(
                    sum(each.get("plain_ms", each["ms"]) * each["launches"] for each in own), 3
                ),
            }
        )
    return told


def projections(config: Qwen3Config) -> Iterator[Projection]:
    """Every matrix that a frame reads."""
    talker, predictor = config.talker, config.talker.code_predictor
    passes = predictor.num_code_groups - 1
    for name, each, times in (("talker", talker, 1), ("predictor", predictor, passes)):
        shape = decoder_shape(each)
        yield from _of_layer(name, shape, times * shape.layers)
        yield Projection(f"{name} head", each.vocab_size, shape.hidden, times, normed=times > 1)
    text = talker.text_hidden_size
    yield Projection("text first", text, text, 1, silu=True)
    yield Projection("text second", talker.hidden_size, text, 1)


def _of_layer(name: str, shape: DecoderShape, times: int) -> Iterator[Projection]:
    inner, hidden = shape.heads * shape.head_dim, shape.hidden
    every = inner + 2 * shape.kv_heads * shape.head_dim
    yield Projection(f"{name} qkv", every, hidden, times, normed=True)
    yield Projection(f"{name} out", hidden, inner, times)
    yield Projection(f"{name} gate", shape.intermediate, hidden, times, normed=True, gated=True)
    yield Projection(f"{name} down", hidden, shape.intermediate, times)


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
        told: Told = {
            "name": self._what.name,
            "precision": str(self._precision),
            "rows": len(self._x),
        }
        told |= {"launches": self._what.launches, "bytes": first.nbytes}
        plain = chosen(self._device, self._dtype, Path.TORCH)
        paths = {"": kernels} if kernels.path is Path.TORCH else {"": kernels, "plain_": plain}
        for prefix, each in paths.items():
            works = [lambda w=weight, k=each: self._run(k, w) for weight in weights]
            ms = median_ms(works, self._device, 3)
            told[f"{prefix}ms"] = round(ms, 5)
            told[f"{prefix}gb_s"] = round(first.nbytes / ms / 1e6, 3)
            told[f"{prefix}of_copy"] = round(first.nbytes / ms / 1e6 / bandwidth, 3)
            told[f"{prefix}error"] = self._error(self._run(each, first), first)
        return told

    def _weight(self) -> Weight:
        count = self._what.n * (2 if self._what.gated else 1)
        matrix = torch.randn(count, self._what.k, device=self._device) / self._what.k**0.5
        return quantize(matrix.to(self._dtype), self._precision)

    def _run(self, kernels: Kernels, weight: Weight) -> Tensor:
        norm = self._norm if self._what.normed else None
        if self._what.gated:
            return kernels.gated(self._x, weight, norm)
        return kernels.linear(self._x, weight, norm, silu=self._what.silu)

    def _error(self, got: Tensor, weight: Weight) -> float:
        """The largest difference from float64, in parts of the largest value."""
        x = (self._norm(self._x) if self._what.normed else self._x).double()
        exact = x @ weight.restored(torch.float64).T
        exact = functional.silu(exact) if self._what.silu else exact
        if self._what.gated:
            gate, up = exact.chunk(2, -1)
            exact = functional.silu(gate) * up
        return float((got.double() - exact).abs().max() / exact.abs().max())
