"""Rotary position embedding, rotate-half form (Su et al. 2021; GPT-NeoX layout)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RopeTable:
    """Cosines and sines of every position: each [positions, head_dim]."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def build(cls, positions: int, head_dim: int, theta: float, like: Tensor) -> RopeTable:
        """Angles in float32, then cast to the dtype and device of ``like``."""
        steps = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
        angles = torch.arange(positions).float()[:, None] * (1.0 / (theta**steps))
        angles = torch.cat((angles, angles), -1)
        return cls(angles.cos().to(like), angles.sin().to(like))

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [B, 1, T, head_dim] for ``positions`` [B, T]."""
        return self.cos[positions][:, None], self.sin[positions][:, None]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """``x`` [B, heads, T, head_dim] turned by the angles of its positions."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin
