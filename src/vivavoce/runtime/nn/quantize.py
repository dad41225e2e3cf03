"""Linear maps with quantized weights: a drop-in for ``nn.Linear``, and what computes them.

Weights have one scale for each output channel and no zero point; they are int8, or float8 (e4m3)
where there is no reason for integers. Activations stay as they are, except on a CPU
(``int8_cpu``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.runtime.nn.streaming import takes
from vivavoce.runtime.nn.weights import Precision, Weight, quantize

Few = Callable[[Tensor, Weight], Tensor]
"""``kernels.Kernels.linear``: few rows [R, K] through a weight to [R, N]."""


class Matrix(Protocol):
    """A matrix [N, K] in whatever form its arithmetic wants."""

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs: N, K."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """``x`` [..., K] to [..., N], in the dtype of ``x``."""
        ...


@dataclass(frozen=True, slots=True)
class WeightOnly:
    """Quantized weights under activations in their own precision; sums in float32 or wider.

    ``few`` computes as many rows as ``streaming.takes`` says; None where there is no kernel.
    """

    weight: Weight
    few: Few | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        outputs, inputs = self.weight.data.shape
        return outputs, inputs

    @property
    def nbytes(self) -> int:
        """Memory of values, scales and bias."""
        return self.weight.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """``x`` [..., K] to [..., N]."""
        outputs, inputs = self.shape
        flat = x.reshape(-1, inputs)
        if self.few is not None and takes(len(flat), quantized=self.weight.scale is not None):
            return _padded(self.few, flat, self.weight).view(*x.shape[:-1], outputs)
        return self._many(flat).view(*x.shape[:-1], outputs)

    def _many(self, x: Tensor) -> Tensor:
        """Both kinds of values are exact in bfloat16; float16 could not hold the unscaled sums."""
        weight = self.weight
        if weight.scale is None:
            return functional.linear(x, weight.data.to(x.dtype), weight.bias)
        inner = torch.float32 if x.dtype == torch.float16 else x.dtype
        sums = functional.linear(x.to(inner), weight.data.to(inner))
        wide = torch.promote_types(inner, torch.float32)
        out = sums.to(wide) * weight.scale.to(wide)
        return (out if weight.bias is None else out + weight.bias.to(wide)).to(x.dtype)


def _padded(few: Few, x: Tensor, weight: Weight) -> Tensor:
    """By a kernel for the next power of two of rows: each number is compiled by itself."""
    rows = x.shape[0]
    missing = (1 << (rows - 1).bit_length()) - rows
    return few(functional.pad(x, (0, 0, 0, missing)) if missing else x, weight)[:rows]


def prepared(weight: Weight, few: Few | None = None) -> Matrix:
    """The fastest form of a weight where it lies. ``few``: see ``WeightOnly``.

    On a CPU int8 goes through PyTorch's own integer kernels where they are there.
    """
    if weight.data.device.type == "cpu" and weight.data.dtype == torch.int8:
        from vivavoce.runtime.nn import int8_cpu

        if int8_cpu.available():
            return int8_cpu.DynamicInt8.pack(weight)
    return WeightOnly(weight, few)


class Unlisted(nn.Module):
    """Holds weights that ``state_dict`` does not list."""

    @property
    def nbytes(self) -> int:
        """Memory they take."""
        raise NotImplementedError


class QuantizedLinear(Unlisted):
    """``nn.Linear`` over a quantized weight. Nothing of it is in ``state_dict``."""

    def __init__(self, weight: Weight, few: Few | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.data.shape
        self.weight: Weight | None = weight
        self.few = few
        self.matrix: Matrix | None = None

    @classmethod
    def of(cls, linear: nn.Linear, precision: Precision, few: Few | None = None) -> Self:
        """The quantized form of a map, which may be dropped afterwards."""
        bias = None if linear.bias is None else linear.bias.detach()
        return cls(quantize(linear.weight.detach(), precision, bias), few)

    @property
    def nbytes(self) -> int:
        """Memory of the weight, whatever its form."""
        held = self.weight if self.matrix is None else self.matrix
        return 0 if held is None else held.nbytes

    def take(self) -> Weight:
        """The weight, which whoever asks keeps from now on: it is not held twice."""
        weight, self.weight = self.weight, None
        assert weight is not None, "taken or prepared already"
        return weight

    def prepare(self) -> None:
        """Bring the weight into the form it is computed in, before the first use."""
        if self.matrix is None:
            self.matrix = prepared(self.take(), self.few)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [..., inputs] to [..., outputs]."""
        if self.matrix is None:
            self.prepare()
        assert self.matrix is not None
        return self.matrix(x)


class QuantizedEmbedding(nn.Module):
    """``nn.Embedding`` in int8 with a scale for each row: a table that is large and little read."""

    data: Tensor
    scale: Tensor

    def __init__(self, table: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        weight = quantize(table.detach(), Precision.INT8)
        self.register_buffer("data", weight.data)
        self.register_buffer("scale", weight.scale)
        self.dtype = dtype

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of any shape to [..., size], in the dtype that was asked for."""
        scale = self.scale[ids][..., None]
        return (self.data[ids].to(scale.dtype) * scale).to(self.dtype)


def quantize_linears(module: nn.Module, precision: Precision, few: Few | None = None) -> int:
    """Swap every ``nn.Linear`` below ``module`` for its quantized form, one at a time.

    Returns how many there were.
    """
    found = [
        (owner, name, child)
        for owner in module.modules()
        for name, child in owner.named_children()
        if isinstance(child, nn.Linear)
    ]
    for owner, name, child in found:
        setattr(owner, name, QuantizedLinear.of(child, precision, few))
    return len(found)
