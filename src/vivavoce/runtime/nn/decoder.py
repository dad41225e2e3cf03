"""A pre-norm decoder of Qwen2, Llama or Qwen3: grouped-query attention and a SwiGLU MLP.

Parameter names are those of the published checkpoints. ``ATTENTION`` are ways to compute attention
over fixed buffers, all with the same result up to rounding: ``sdpa`` is PyTorch's own. For one
query a row it keeps few of a GPU's cores busy when a row has few KV heads; ``matmul`` spreads the
keys over them, ``split`` the values too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.runtime.nn.kv import Cache, Placement
from vivavoce.runtime.nn.linear import Joining, Linear
from vivavoce.runtime.nn.norm import RMSNorm, rms_norm
from vivavoce.runtime.nn.rope import rotate

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""From query [B, KV, Q, D], keys and values [B, KV, S, D] and mask [B, 1, 1 or Q, S] (True where
a query may look; None: everywhere) to [B, KV, Q, D]."""

SPLIT_POSITIONS = 128


def sdpa(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """PyTorch's scaled dot product attention; it takes masks that are added, too."""
    return functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)


def matmul(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Written out: scores, softmax in float32, mixture."""
    return _attention_weights(query, keys, mask) @ values


def split(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """As ``matmul``, the mixture summed over parts of the positions (split-K)."""
    span = keys.shape[2]
    if span % SPLIT_POSITIONS:
        return matmul(query, keys, values, mask)
    rows, groups, queries, size = query.shape
    parts = (span // SPLIT_POSITIONS, SPLIT_POSITIONS)
    weights = _attention_weights(query, keys, mask).view(rows, groups, queries, *parts)
    mixed = weights.transpose(2, 3) @ values.view(rows, groups, *parts, size)
    return mixed.sum(2, dtype=torch.float32).to(query.dtype)


def _attention_weights(query: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
    scores = (query * (1 / math.sqrt(query.shape[-1]))) @ keys.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(-1, dtype=torch.float32).to(query.dtype)


ATTENTION: Mapping[str, Attend] = MappingProxyType({"sdpa": sdpa, "matmul": matmul, "split": split})
"""By name, for one query a row; longer slices always take ``sdpa``."""


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The sizes of a decoder stack.

    ``qkv_bias``: query, key and value projections have a bias. ``qk_norm``: the heads of queries
    and keys are normalized. ``whole_norms``: see ``RMSNorm``.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_eps: float
    qkv_bias: bool = False
    qk_norm: bool = True
    whole_norms: bool = False

    def kv_shape(self, rows: int, positions: int) -> tuple[int, int, int, int, int]:
        """The shape of each half of the KV buffer."""
        return self.layers, rows, self.kv_heads, positions, self.head_dim


class Attention(Joining):
    """Grouped-query attention over a fixed buffer (Ainslie et al. 2023).

    ``attend`` is how single tokens attend; longer slices take ``sdpa``.
    """

    scales: Tensor | None = None
    attend: Attend

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        inner, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.shape = shape
        self.attend = sdpa
        self.q_proj = Linear(shape.hidden, inner, bias=shape.qkv_bias)
        self.k_proj = Linear(shape.hidden, kv, bias=shape.qkv_bias)
        self.v_proj = Linear(shape.hidden, kv, bias=shape.qkv_bias)
        self.o_proj = Linear(inner, shape.hidden)
        if shape.qk_norm:
            self.q_norm = RMSNorm(shape.head_dim, shape.norm_eps)
            self.k_norm = RMSNorm(shape.head_dim, shape.norm_eps)

    def parts(self) -> tuple[Linear, ...]:
        """Queries, keys, values."""
        return self.q_proj, self.k_proj, self.v_proj

    def join(self) -> None:
        """Join them, and the weights of the two norms."""
        super().join()
        self.join_scales()

    def join_scales(self) -> None:
        """Join the weights of the two norms, where there are any."""
        if self.shape.qk_norm:
            self.scales = self._scales().detach()

    def forward(self, x: Tensor, at: Placement, kv: Cache, layer: int) -> Tensor:
        """``x`` [B, T, hidden]; writes this layer's keys and values, returns [B, T, hidden]."""
        heads, kv_heads = self.shape.heads, self.shape.kv_heads
        every = torch.unflatten(self.all_parts(x), -1, (-1, self.shape.head_dim)).transpose(1, 2)
        placed, value = torch.split(every, [heads + kv_heads, kv_heads], 1)
        if self.shape.qk_norm:
            scales = self._scales() if self.scales is None else self.scales
            placed = rms_norm(placed, scales, self.shape.norm_eps)
        turned = rotate(placed, at.cos, at.sin)
        query, key = torch.split(turned, [heads, kv_heads], 1)
        kv.write(layer, at, key, value)
        keys, values = kv.read(layer, at.span)
        mixed: Tensor = self.o_proj(self._attend(query, keys, values, at.mask))
        return mixed

    def _scales(self) -> Tensor:
        """The weights of the two norms for each head: [heads + kv_heads, 1, head_dim]."""
        norms = ((self.q_norm, self.shape.heads), (self.k_norm, self.shape.kv_heads))
        return torch.cat([norm.weight.expand(heads, 1, -1) for norm, heads in norms])

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """[B, T, heads * head_dim]. Queries of one group become rows over their shared keys."""
        rows, heads, steps, size = query.shape
        groups = heads // self.shape.kv_heads
        query = query.reshape(rows, self.shape.kv_heads, groups * steps, size)
        if mask is not None and steps > 1:
            mask = mask.repeat(1, 1, groups, 1)
        out = (self.attend if steps == 1 else sdpa)(query, keys, values, mask)
        return out.reshape(rows, heads, steps, size).transpose(1, 2).flatten(2)


class SwiGLU(Joining):
    """Gated MLP (Shazeer 2020)."""

    def __init__(self, hidden: int, intermediate: int) -> None:
        super().__init__()
        self.gate_proj = Linear(hidden, intermediate)
        self.up_proj = Linear(hidden, intermediate)
        self.down_proj = Linear(intermediate, hidden)

    def parts(self) -> tuple[Linear, ...]:
        """Gate and input."""
        return self.gate_proj, self.up_proj

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] to [..., hidden]."""
        gate, up = self.all_parts(x).chunk(2, -1)
        out: Tensor = self.down_proj(functional.silu(gate) * up)
        return out


class DecoderLayer(nn.Module):
    """Attention and MLP, each on the normalized input and added to it."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = SwiGLU(shape.hidden, shape.intermediate)
        norm = partial(RMSNorm, shape.hidden, shape.norm_eps, whole=shape.whole_norms)
        self.input_layernorm, self.post_attention_layernorm = norm(), norm()

    def forward(self, x: Tensor, at: Placement, kv: Cache, layer: int) -> Tensor:
        """``x`` [B, T, hidden] to the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), at, kv, layer)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Decoder(nn.Module):
    """A stack of layers and the final norm."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.layers = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.hidden, shape.norm_eps, whole=shape.whole_norms)

    def set_attention(self, attend: Attend) -> None:
        """How single tokens attend; all but ``sdpa`` need masks that are boolean."""
        for part in self.modules():
            if isinstance(part, Attention):
                part.attend = attend

    def join(self) -> None:
        """Join the maps of one input, layer by layer, after loading; see ``Joining``."""
        for part in self.modules():
            if isinstance(part, Joining):
                part.join()

    def forward(self, x: Tensor, at: Placement, kv: Cache) -> Tensor:
        """``x`` [B, T, hidden] to normalized hidden states [B, T, hidden]; fills ``kv``."""
        for number, layer in enumerate(self.layers):
            x = layer(x, at, kv, number)
        out: Tensor = self.norm(x)
        return out
