"""Weights in 8 bits: one scale an output channel, activations as they are.

Integers up to 127 are exact in bfloat16 and float16, and the scale is rounded before the weights
are divided by it, so that rounding the weights to 8 bits is the only error.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LIMIT = 127
FEW_ROWS = 16
"""Up to here PyTorch's own kernel for the CPU beats making the weights wide first (bfloat16)."""


class Int8Linear(nn.Module):
    """A linear layer of int8 ``weight`` [out, in] and ``scale`` [out]."""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)
        self._packed = has_packed_kernel(weight.device, scale.dtype)

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None = None) -> Int8Linear:
        """Quantise a weight [out, in] of the dtype to compute in."""
        return cls(*quantise(weight), bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        if self._packed and x.numel() <= FEW_ROWS * x.shape[-1]:
            flat = x.reshape(-1, x.shape[-1])
            out = torch._weight_int8pack_mm(flat, self.weight, self.scale)
            out = out.view(*x.shape[:-1], -1)
        else:
            out = functional.linear(x, self.weight.to(x.dtype)) * self.scale
        return out if self.bias is None else out + self.bias


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """``weight`` [out, in] as int8 and its scales [out] of the weight's dtype."""
    largest = weight.abs().amax(1).float()
    scale = torch.where(largest > 0, largest / LIMIT, torch.ones_like(largest)).to(weight.dtype)
    scale = scale.clamp(min=torch.finfo(weight.dtype).tiny)
    levels = (weight.float() / scale.float()[:, None]).round_().clamp_(-LIMIT, LIMIT)
    return levels.to(torch.int8), scale


def relative_error(weight: Tensor, layer: Int8Linear) -> float:
    """Root-mean-square error of the quantised weight over the weight's root mean square."""
    wide = weight.float()
    error = layer.weight.float() * layer.scale.float()[:, None] - wide
    size = wide.norm()
    return float(error.norm() / size) if size > 0 else 0.0


def has_packed_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether PyTorch multiplies int8 weights without making them wide, and gains by it."""
    fits = device.type == "cpu" and dtype == torch.bfloat16
    return fits and hasattr(torch, "_weight_int8pack_mm")
