"""Rotary position embedding, plain or stretched as a checkpoint asks (Su et al. 2021).

Tables hold sines whose first half is negative: then turning is a roll, a product and a fused
product-and-sum, half as many kernels as swapping halves by hand.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vivavoce.engines.neutts.torch_lm.config import LmConfig, RopeScaling
from vivavoce.runtime.nn.rope import RopeTable


def frequencies(head_dim: int, theta: float, scaling: RopeScaling | None) -> Tensor:
    """Radians a position, float32 [head_dim / 2]."""
    steps = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    plain = 1.0 / (theta**steps)
    if scaling is None:
        return plain
    if scaling.kind == "linear":
        return plain / scaling.factor
    return _llama3(plain, scaling)


def _llama3(plain: Tensor, scaling: RopeScaling) -> Tensor:
    """Slow rotations divided, fast ones kept, a linear ramp between (Llama 3.1)."""
    turns = scaling.original_positions * plain / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return plain * kept + plain / scaling.factor * (1 - kept)


def rope_table(config: LmConfig, positions: int, like: Tensor) -> RopeTable:
    """Cosines and signed sines [positions, head_dim], made in float32, of ``like``'s dtype."""
    angles = frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
    angles = torch.arange(positions).float()[:, None] * angles
    cos, sin = angles.cos(), angles.sin()
    return RopeTable(torch.cat((cos, cos), -1).to(like), torch.cat((-sin, sin), -1).to(like))


def turn(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """``x`` [B, heads, T, head_dim] turned by the angles of its positions (rotate-half form)."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), signed_sin)
