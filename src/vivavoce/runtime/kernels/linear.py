"""Projections of a few rows, with what stands before and after them; plain PyTorch.

Every weight is read once, so the time of a projection is its bytes over the memory's bandwidth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vivavoce.runtime.nn.weights import Weight


@dataclass(frozen=True, slots=True)
class Norm:
    """RMSNorm: ``weight`` [K] and ``eps``; the arithmetic is that of ``layers.rms_norm``."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """``x`` [..., K], normalized, in its own dtype."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * (wide * scale).to(x.dtype)


def linear(
    x: Tensor,
    weight: Weight,
    norm: Norm | None = None,
    residual: Tensor | None = None,
    *,
    silu: bool = False,
) -> Tensor:
    """``residual + norm(x) @ weight.T + bias``: ``x`` [R, K] to [R, N], in the dtype of ``x``.

    ``residual`` [R, N] is added, and ``silu`` computed, after the product was rounded, as separate
    operations would.
    """
    out = _product(x if norm is None else norm(x), weight)
    out = functional.silu(out) if silu else out
    return out if residual is None else residual + out


def gated(x: Tensor, weight: Weight, norm: Norm | None = None) -> Tensor:
    """SwiGLU without its last projection (Shazeer 2020): ``x`` [R, K] to [R, I].

    ``weight`` [2 I, K] has the gate's rows above the others.
    """
    gate, up = _product(x if norm is None else norm(x), weight).chunk(2, -1)
    return functional.silu(gate) * up


def normalize(x: Tensor, norm: Norm) -> Tensor:
    """``norm(x)`` by itself: ``x`` [R, K]."""
    return norm(x)


def _product(x: Tensor, weight: Weight) -> Tensor:
    """Quantized numbers are exact in the dtype of ``x``; their scale is applied in float32."""
    if weight.scale is None:
        return functional.linear(x, weight.data, weight.bias)
    wide = torch.promote_types(x.dtype, torch.float32)
    out = functional.linear(x, weight.data.to(x.dtype)).to(wide) * weight.scale.to(wide)
    if weight.bias is not None:
        out = out + weight.bias.to(wide)
    return out.to(x.dtype)
