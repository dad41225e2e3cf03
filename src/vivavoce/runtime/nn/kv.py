"""Fixed key and value buffers, and where in them a forward pass reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vivavoce.runtime.nn.rope import RopeTable


class Cache(Protocol):
    """Where keys and values are kept: ``KVBuffer``, or one row of it."""

    def write(self, layer: int, at: Placement, keys: Tensor, values: Tensor) -> None:
        """Store [B, kv_heads, T, head_dim] at the placement's rows and positions."""

    def read(self, layer: int, span: int) -> tuple[Tensor, Tensor]:
        """The first ``span`` positions of a layer: two [B, kv_heads, span, head_dim]."""


@dataclass(frozen=True, slots=True)
class KVBuffer:
    """Keys and values of all layers: each [layers, B, kv_heads, positions, head_dim].

    They start as zeros: what lies behind a row's length is masked, but must be finite.
    """

    keys: Tensor
    values: Tensor

    @classmethod
    def zeros(cls, shape: tuple[int, int, int, int, int], like: Tensor) -> KVBuffer:
        """Empty buffers of the dtype and device of ``like``.

        On a CPU their memory is taken page by page, as positions are first written.
        """
        return cls(_zeros(shape, like), _zeros(shape, like))

    def rows(self, start: int, stop: int) -> KVBuffer:
        """A view of some rows, sharing memory."""
        return KVBuffer(self.keys[:, start:stop], self.values[:, start:stop])

    def write(self, layer: int, at: Placement, keys: Tensor, values: Tensor) -> None:
        """Store [B, kv_heads, T, head_dim] at the placement's positions."""
        for buffer, new in ((self.keys[layer], keys), (self.values[layer], values)):
            if isinstance(at.positions, slice):
                buffer[:, :, at.positions] = new
            else:
                buffer[at.rows, :, at.positions] = new.transpose(1, 2)

    def read(self, layer: int, span: int) -> tuple[Tensor, Tensor]:
        """The first ``span`` positions of a layer: two [B, kv_heads, span, head_dim]."""
        return self.keys[layer, :, :, :span], self.values[layer, :, :, :span]

    def beginning(self, row: int, length: int) -> KVBuffer:
        """A view of the first ``length`` positions of one row, sharing memory."""
        part = (slice(None), slice(row, row + 1), slice(None), slice(0, length))
        return KVBuffer(self.keys[part], self.values[part])

    def clone(self) -> KVBuffer:
        """A copy in memory of its own."""
        return KVBuffer(self.keys.clone(), self.values.clone())

    def copy_from(self, other: KVBuffer) -> None:
        """Take over another's keys and values, of the same shape."""
        self.keys.copy_(other.keys)
        self.values.copy_(other.values)


class SelectedRow:
    """One row of a buffer, chosen by a tensor [1]: one captured graph serves every row."""

    def __init__(self, kv: KVBuffer, row: Tensor) -> None:
        self._kv = kv
        self._row = row

    def write(self, layer: int, at: Placement, keys: Tensor, values: Tensor) -> None:
        """Into the row that the placement names."""
        self._kv.write(layer, at, keys, values)

    def read(self, layer: int, span: int) -> tuple[Tensor, Tensor]:
        """A copy of the row's first positions."""
        keys, values = self._kv.read(layer, span)
        return keys.index_select(0, self._row), values.index_select(0, self._row)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the T tokens of each of B rows stand; made once per pass, used by every layer.

    ``positions`` [B, T], or a slice where all rows stand alike; ``cos``, ``sin`` broadcast to
    [B, 1, T, head_dim]; ``mask`` broadcasts to [B, 1, T, span] and tells where a token may look:
    at itself and what is before it. It is True there, or added to the scores: 0 there and -inf
    elsewhere; None when a token may look at all of the span. ``rows`` [B, 1] are the rows of the
    buffer that are written to, None with a slice.
    """

    positions: Tensor | slice
    cos: Tensor
    sin: Tensor
    mask: Tensor | None
    span: int
    rows: Tensor | None = None

    @classmethod
    def each(
        cls,
        rope: RopeTable,
        positions: Tensor,
        span: int,
        *,
        rows: Tensor | None = None,
        added: bool = True,
    ) -> Placement:
        """Rows at ``positions`` [B, T] of their own, each below ``span``; all rows, or ``rows``.

        ``added``: the mask is added to the scores, else it is boolean.
        """
        reach = torch.arange(span, device=positions.device)
        cos, sin = rope.at(positions)
        if rows is None:
            rows = torch.arange(positions.shape[0], device=positions.device)[:, None]
        ahead = reach > positions[:, None, :, None]
        return cls(positions, cos, sin, _banned(ahead, cos) if added else ~ahead, span, rows)

    @classmethod
    def alike(cls, rope: RopeTable, start: int, stop: int) -> Placement:
        """All rows at positions ``start`` to ``stop``, after what is before them."""
        cos, sin = rope.between(start, stop)
        mask = None
        if stop - start > 1:
            reach = torch.arange(stop, device=cos.device)
            mask = _banned(reach > reach[start:, None], cos)[None, None]
        return cls(slice(start, stop), cos, sin, mask, stop)


def _zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    # NumPy leaves the zeroing to the system, which does it when a page is touched.
    raw = np.zeros(prod(shape) * like.element_size(), np.uint8)
    return torch.from_numpy(raw).view(like.dtype).view(shape)


def _banned(where: Tensor, like: Tensor) -> Tensor:
    return torch.zeros(where.shape, dtype=like.dtype, device=where.device).masked_fill(
        where, -torch.inf
    )
