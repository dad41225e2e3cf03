"""One layer's attention between its projections, over a fixed KV buffer; plain PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vivavoce.errors import InputError
from vivavoce.runtime.kernels.linear import Norm
from vivavoce.runtime.nn.rope import RopeTable, rotate


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads of a layer: ``groups`` queries share a key.

    The norms are per head, [size], of the same eps. Raises InputError for others.
    """

    heads: int
    kv_heads: int
    size: int
    q_norm: Norm
    k_norm: Norm

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads or self.q_norm.eps != self.k_norm.eps:
            raise InputError("The heads must share their keys evenly, and both norms their eps.")

    @property
    def groups(self) -> int:
        """Query heads of one key head."""
        return self.heads // self.kv_heads

    @property
    def width(self) -> int:
        """Columns of queries, keys and values side by side."""
        return (self.heads + 2 * self.kv_heads) * self.size


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where parts of a row meet: for one layer at a time, on one stream.

    ``sums`` float32 [B, kv_heads, splits, queries, size]; ``weights`` float32 [B, kv_heads, splits,
    2, queries], the largest score and the sum of weights; ``arrived`` int32 [B, kv_heads], zero
    between uses.
    """

    sums: Tensor
    weights: Tensor
    arrived: Tensor

    @classmethod
    def build(cls, heads: Heads, rows: int, splits: int, device: torch.device) -> Scratch:
        """Room for ``splits`` parts of each row."""
        queries = 1 << (heads.groups - 1).bit_length()  # as many as a program has, padded
        parts = (rows, heads.kv_heads, splits)
        return cls(
            torch.zeros(*parts, queries, heads.size, device=device),
            torch.zeros(*parts, 2, queries, device=device),
            torch.zeros(rows, heads.kv_heads, dtype=torch.int32, device=device),
        )

    @property
    def splits(self) -> int:
        """Parts that a row is read in at most."""
        return self.sums.shape[2]


@dataclass(frozen=True, slots=True)
class Cache:
    """A layer's keys and values, each [B, kv_heads, P, size] and contiguous; where rows stand.

    ``positions`` int64 [B] is the place of a row's first new token. Rows that are not ``active``
    (bool [B]; None: all are) may be given anything that is finite. With ``scratch`` rows are read
    in parts at once.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    active: Tensor | None = None
    scratch: Scratch | None = None


def attend(qkv: Tensor, heads: Heads, rope: RopeTable, cache: Cache) -> Tensor:
    """Norm, rotate, store and attend: ``qkv`` [B, T, width] to [B, T, heads * size].

    Keys and values of the T new tokens go into ``cache``; each token sees what is before it.
    """
    rows, steps = qkv.shape[:2]
    at = cache.positions[:, None] + torch.arange(steps, device=qkv.device)
    at = at.clamp(max=cache.keys.shape[2] - 1)
    split = qkv.view(rows, steps, -1, heads.size).transpose(1, 2)
    query, key, value = split.split((heads.heads, heads.kv_heads, heads.kv_heads), 1)
    cos, sin = rope.at(at)
    query = rotate(heads.q_norm(query), cos, sin)
    key = rotate(heads.k_norm(key), cos, sin)
    every = torch.arange(rows, device=qkv.device)[:, None]
    cache.keys[every, :, at] = key.transpose(1, 2)
    cache.values[every, :, at] = value.transpose(1, 2)
    return _mixed(query, heads, cache, at)


def _mixed(query: Tensor, heads: Heads, cache: Cache, at: Tensor) -> Tensor:
    rows, _, steps, size = query.shape
    query = query.reshape(rows, heads.kv_heads, heads.groups * steps, size)
    reach = torch.arange(cache.keys.shape[2], device=query.device)
    mask = (reach <= at[:, None, :, None]).repeat(1, 1, heads.groups, 1)
    out = functional.scaled_dot_product_attention(query, cache.keys, cache.values, attn_mask=mask)
    return out.reshape(rows, heads.heads, steps, size).transpose(1, 2).flatten(2)
