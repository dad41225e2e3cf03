"""Fixed key and value buffers, and where a step reads and writes: rows chosen by tensors."""

from __future__ import annotations

from dataclasses import dataclass

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
        """Empty buffers of the dtype and device of ``like``."""
        return cls(like.new_zeros(shape), like.new_zeros(shape))

    def rows(self, start: int, stop: int) -> KVBuffer:
        """A view of some rows, sharing memory."""
        return KVBuffer(self.keys[:, start:stop], self.values[:, start:stop])

    def write(self, layer: int, at: Placement, keys: Tensor, values: Tensor) -> None:
        """Store [B, kv_heads, T, head_dim] at the placement's positions."""
        index = (at.rows, slice(None), at.positions)
        self.keys[layer][index] = keys.transpose(1, 2)
        self.values[layer][index] = values.transpose(1, 2)

    def read(self, layer: int, span: int) -> tuple[Tensor, Tensor]:
        """The first ``span`` positions of a layer: two [B, kv_heads, span, head_dim]."""
        return self.keys[layer, :, :, :span], self.values[layer, :, :, :span]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the T tokens of each of B rows stand; made once per pass, used by every layer.

    ``positions`` [B, T]; ``rows`` [B, 1]; ``cos``, ``sin`` [B, 1, T, head_dim]; ``mask``
    [B, 1, T, span] is True where a token may look (itself and what is before it), None when it may
    look at all of the span.
    """

    positions: Tensor
    rows: Tensor
    cos: Tensor
    sin: Tensor
    mask: Tensor | None
    span: int

    @classmethod
    def causal(cls, rope: RopeTable, positions: Tensor, span: int) -> Placement:
        """Each token sees the positions up to its own, out of the first ``span``."""
        reach = torch.arange(span, device=positions.device)
        mask = reach <= positions[:, None, :, None]
        return cls(positions, _row_numbers(positions), *rope.at(positions), mask, span)


def _row_numbers(positions: Tensor) -> Tensor:
    return torch.arange(positions.shape[0], device=positions.device)[:, None]
