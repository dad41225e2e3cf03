"""Fixed key and value buffers, and where in them a forward pass reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from vivavoce.runtime.nn.rope import RopeTable


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
                rows = torch.arange(new.shape[0], device=new.device)[:, None]
                buffer[rows, :, at.positions] = new.transpose(1, 2)

    def read(self, layer: int, span: int) -> tuple[Tensor, Tensor]:
        """The first ``span`` positions of a layer: two [B, kv_heads, span, head_dim]."""
        return self.keys[layer, :, :, :span], self.values[layer, :, :, :span]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the T tokens of each of B rows stand; made once per pass, used by every layer.

    ``positions`` [B, T], or a slice where all rows stand alike; ``cos``, ``sin`` broadcast to
    [B, 1, T, head_dim]; ``mask`` broadcasts to [B, 1, T, span] and is added to the scores: 0 where
    a token may look (itself and what is before it), -inf elsewhere; None when it may look at all of
    the span.
    """

    positions: Tensor | slice
    cos: Tensor
    sin: Tensor
    mask: Tensor | None
    span: int

    @classmethod
    def each(cls, rope: RopeTable, positions: Tensor, span: int) -> Placement:
        """Rows at ``positions`` [B, T] of their own, each below ``span``."""
        reach = torch.arange(span, device=positions.device)
        cos, sin = rope.at(positions)
        mask = _banned(reach > positions[:, None, :, None], cos)
        return cls(positions, cos, sin, mask, span)

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
