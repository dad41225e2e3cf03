"""Noise for sampling that depends on a row's seed, its token count and the choice alone.

Counter-based (Salmon et al. 2011): no generator state, so a row draws the same in any company,
and a captured graph draws anew at each replay.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_BITS = 23  # what float32 holds without rounding up to 1


def split_seed(seed: int) -> tuple[int, int]:
    """The two 32-bit halves of a seed; of larger numbers the lower 64 bits."""
    return seed & _MASK, seed >> 32 & _MASK


def gumbel(seeds: Tensor, counts: Tensor, choices: Tensor) -> Tensor:
    """Standard Gumbel noise, float32 [B, K], for ``choices`` [B, K] of each row.

    ``seeds`` [B, 2] int64 halves of 32 bits; ``counts`` [B] int64. The largest score plus noise
    is an exact draw from the scores' softmax (Gumbel 1954).
    """
    low, high = seeds[:, :1], seeds[:, 1:]
    first = _mix(_mix(low) + counts[:, None] & _MASK)
    second = _mix(_mix(high ^ 0x5851F42D) ^ first) ^ _mix(low + 0x2545F491 & _MASK)
    bits = _mix(_mix(choices + first & _MASK) ^ second)
    uniform = ((bits >> (32 - _BITS)).float() + 0.5) * 2.0**-_BITS
    return -torch.log(-torch.log(uniform))


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit numbers held in int64 (constants of Wellons' hash-prospector).

    The multipliers are below 2**31, so that no product leaves int64.
    """
    x = (x ^ (x >> 16)) * 0x21F0AAAD & _MASK
    x = (x ^ (x >> 15)) * 0x735A2D97 & _MASK
    return x ^ (x >> 15)
