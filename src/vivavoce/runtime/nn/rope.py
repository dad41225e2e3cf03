"""Rotary position embedding, rotate-half form (Su et al. 2021; GPT-NeoX layout)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How angles are stretched for long contexts.

    ``linear`` divides every angle by ``factor`` (Chen et al. 2023). ``llama3`` divides only slow
    rotations, with a ramp between the two wavelengths that ``original_positions`` over
    ``low_freq_factor`` and over ``high_freq_factor`` give (Llama 3.1).
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_positions: int = 8192


@dataclass(frozen=True, slots=True)
class RopeTable:
    """Cosines and sines, as ``turns`` gives them, of every position: each [positions, head_dim]."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def build(
        cls,
        positions: int,
        head_dim: int,
        theta: float,
        like: Tensor,
        scaling: RopeScaling | None = None,
    ) -> RopeTable:
        """Angles in float32, then cast to the dtype and device of ``like``."""
        cos, sin = turns(torch.arange(positions).float()[:, None], head_dim, theta, scaling)
        return cls(cos.to(like), sin.to(like))

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [B, 1, T, head_dim] for ``positions`` [B, T]."""
        return self.cos[positions][:, None], self.sin[positions][:, None]

    def between(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [stop - start, head_dim] of positions that the host knows."""
        return self.cos[start:stop], self.sin[start:stop]


def frequencies(
    head_dim: int,
    theta: float,
    scaling: RopeScaling | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Radians a position, float32 [head_dim / 2]."""
    steps = torch.arange(0, head_dim, 2, device=device).float() / head_dim
    plain = 1.0 / (theta**steps)
    if scaling is None:
        return plain
    if scaling.kind == "linear":
        return plain / scaling.factor
    rotations = scaling.original_positions * plain / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((rotations - low) / (high - low)).clamp(0, 1)
    return plain * kept + plain / scaling.factor * (1 - kept)


def turns(
    positions: Tensor, head_dim: int, theta: float, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [..., head_dim] at ``positions`` [..., 1] float32.

    The first half of the sines is negative: ``rotate`` then needs no sign of its own.
    """
    angles = positions * frequencies(head_dim, theta, scaling, positions.device)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """``x`` [B, heads, T, head_dim] turned by the angles of its positions (see ``turns``)."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)
