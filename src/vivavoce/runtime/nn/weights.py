"""Weight matrices as products read them: as they are, or quantized per output channel."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vivavoce.errors import InputError

FP8 = torch.float8_e4m3fn
_AT_ONCE = 1 << 20
"""How many weights are in float32 at a time."""


class Precision(enum.StrEnum):
    """How weights are stored. Activations and sums keep the model's precision."""

    NONE = "none"
    INT8 = "int8"
    FP8 = "fp8"


STORED = {Precision.INT8: torch.int8, Precision.FP8: FP8}
_MOST = {Precision.INT8: 127.0, Precision.FP8: 448.0}


@dataclass(frozen=True, slots=True)
class Weight:
    """A matrix [N, K]: float, or int8 / float8 (e4m3) with ``scale`` [N], float32.

    The value of row n is ``data[n] * scale[n]``. ``bias`` [N] is in the model's precision.
    """

    data: Tensor
    scale: Tensor | None = None
    bias: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes read in one pass."""
        parts = (self.data, self.scale, self.bias)
        return sum(part.nbytes for part in parts if part is not None)

    def restored(self, dtype: torch.dtype) -> Tensor:
        """The matrix in float, [N, K]."""
        if self.scale is None:
            return self.data.to(dtype)
        wide = torch.promote_types(dtype, torch.float32)
        return (self.data.to(wide) * self.scale[:, None].to(wide)).to(dtype)


def quantize(weight: Tensor, precision: Precision, bias: Tensor | None = None) -> Weight:
    """Round a float matrix [N, K] to ``precision``: symmetric, one scale for each output channel.

    Raises InputError for a matrix with numbers that are not finite.
    """
    if precision is Precision.NONE:
        return Weight(weight.contiguous(), bias=bias)
    data = torch.empty_like(weight, dtype=STORED[precision], memory_format=torch.contiguous_format)
    scale = torch.empty(len(weight), device=weight.device)
    rows = max(1, _AT_ONCE // max(1, weight.shape[1]))
    for start in range(0, len(weight), rows):
        part = slice(start, start + rows)
        _round(weight[part], data[part], scale[part], _MOST[precision])
    return Weight(data, scale, bias)


def _round(weight: Tensor, data: Tensor, scale: Tensor, most: float) -> None:
    wide = weight.float()
    largest = wide.abs().amax(-1)
    if not bool(largest.isfinite().all()):
        raise InputError("A weight that is not finite can not be quantized.", param="quantize")
    scale.copy_(torch.where(largest > 0, largest / most, torch.ones_like(largest)))
    steps = (wide / scale[:, None]).clamp_(-most, most)
    data.copy_(steps if data.dtype.is_floating_point else steps.round_())


def stack(weights: Sequence[Weight]) -> Weight:
    """Several matrices that read the same input, one above the other: one pass instead of many."""
    scales = [each.scale for each in weights if each.scale is not None]
    biases = [each.bias for each in weights if each.bias is not None]
    return Weight(
        torch.cat([each.data for each in weights]),
        torch.cat(scales) if scales else None,
        torch.cat(biases) if biases else None,
    )
