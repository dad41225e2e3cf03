"""Rotary position embedding, rotate-half form (Su et al. 2021; GPT-NeoX layout)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RopeTable:
    """Cosines and sines, as ``turns`` gives them, of every position: each [positions, head_dim]."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def build(cls, positions: int, head_dim: int, theta: float, like: Tensor) -> RopeTable:
        """Angles in float32, then cast to the dtype and device of ``like``."""
        cos, sin = turns(torch.arange(positions).float()[:, None], head_dim, theta)
        return cls(cos.to(like), sin.to(like))

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [B, 1, T, head_dim] for ``positions`` [B, T]."""
        return self.cos[positions][:, None], self.sin[positions][:, None]

    def between(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [stop - start, head_dim] of positions that the host knows."""
        return self.cos[start:stop], self.sin[start:stop]


def turns(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines [..., head_dim] at ``positions`` [..., 1] float32.

    The first half of the sines is negative: ``rotate`` then needs no sign of its own.
    """
    steps = torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim
    angles = positions * (1.0 / (theta**steps))
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """``x`` [B, heads, T, head_dim] turned by the angles of its positions (see ``turns``)."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)
