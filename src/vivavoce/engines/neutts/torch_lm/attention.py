"""Ways to compute attention over fixed buffers; all give the same result up to rounding.

``sdpa`` is PyTorch's own. For one query a row it keeps few of a GPU's cores busy when a row has
few KV heads; ``matmul`` spreads the keys over them, ``split`` the values too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from torch import Tensor, float32
from torch.nn import functional

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""From query [B, KV, Q, D], keys and values [B, KV, S, D] and mask [B, 1, 1 or Q, S] (True where
a query may look; None: everywhere) to [B, KV, Q, D]."""

SPLIT_POSITIONS = 128


def sdpa(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """PyTorch's scaled dot product attention."""
    return functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)


def matmul(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Written out: scores, softmax in float32, mixture."""
    return _weights(query, keys, mask) @ values


def split(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """As ``matmul``, the mixture summed over parts of the positions (split-K)."""
    span = keys.shape[2]
    if span % SPLIT_POSITIONS:
        return matmul(query, keys, values, mask)
    rows, groups, queries, size = query.shape
    parts = (span // SPLIT_POSITIONS, SPLIT_POSITIONS)
    weights = _weights(query, keys, mask).view(rows, groups, queries, *parts).transpose(2, 3)
    mixed = weights @ values.view(rows, groups, *parts, size)
    return mixed.sum(2, dtype=float32).to(query.dtype)


def _weights(query: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
    scores = (query * (1 / math.sqrt(query.shape[-1]))) @ keys.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1, dtype=float32).to(query.dtype)


ATTENTION: Mapping[str, Attend] = MappingProxyType({"sdpa": sdpa, "matmul": matmul, "split": split})
"""By name, for one query a row; longer slices always take ``sdpa``."""
