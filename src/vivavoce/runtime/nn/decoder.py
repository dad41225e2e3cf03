"""A pre-norm decoder: grouped-query attention with q/k norm, and a SwiGLU MLP.

Parameter names are those of published Qwen3-style checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.runtime.nn.kv import KVBuffer, Placement
from vivavoce.runtime.nn.linear import Joining, Linear
from vivavoce.runtime.nn.norm import RMSNorm, rms_norm
from vivavoce.runtime.nn.rope import rotate


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The sizes of a decoder stack."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_eps: float

    def kv_shape(self, rows: int, positions: int) -> tuple[int, int, int, int, int]:
        """The shape of each half of the KV buffer."""
        return self.layers, rows, self.kv_heads, positions, self.head_dim


class Attention(Joining):
    """Grouped-query attention over a fixed buffer (Ainslie et al. 2023)."""

    scales: Tensor | None = None

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        inner, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.shape = shape
        self.q_proj = Linear(shape.hidden, inner)
        self.k_proj = Linear(shape.hidden, kv)
        self.v_proj = Linear(shape.hidden, kv)
        self.o_proj = Linear(inner, shape.hidden)
        self.q_norm = RMSNorm(shape.head_dim, shape.norm_eps)
        self.k_norm = RMSNorm(shape.head_dim, shape.norm_eps)

    def parts(self) -> tuple[Linear, ...]:
        """Queries, keys, values."""
        return self.q_proj, self.k_proj, self.v_proj

    def join(self) -> None:
        """Join them, and the weights of the two norms."""
        super().join()
        self.scales = self._scales().detach()

    def forward(self, x: Tensor, at: Placement, kv: KVBuffer, layer: int) -> Tensor:
        """``x`` [B, T, hidden]; writes this layer's keys and values, returns [B, T, hidden]."""
        heads, kv_heads = self.shape.heads, self.shape.kv_heads
        every = torch.unflatten(self.all_parts(x), -1, (-1, self.shape.head_dim)).transpose(1, 2)
        placed, value = torch.split(every, [heads + kv_heads, kv_heads], 1)
        scales = self._scales() if self.scales is None else self.scales
        turned = rotate(rms_norm(placed, scales, self.shape.norm_eps), at.cos, at.sin)
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
        out = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
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
        self.input_layernorm = RMSNorm(shape.hidden, shape.norm_eps)
        self.post_attention_layernorm = RMSNorm(shape.hidden, shape.norm_eps)

    def forward(self, x: Tensor, at: Placement, kv: KVBuffer, layer: int) -> Tensor:
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
        self.norm = RMSNorm(shape.hidden, shape.norm_eps)

    def join(self) -> None:
        """Join the maps of one input, layer by layer, after loading; see ``Joining``."""
        for part in self.modules():
            if isinstance(part, Joining):
                part.join()

    def forward(self, x: Tensor, at: Placement, kv: KVBuffer) -> Tensor:
        """``x`` [B, T, hidden] to normalized hidden states [B, T, hidden]; fills ``kv``."""
        for number, layer in enumerate(self.layers):
            x = layer(x, at, kv, number)
        out: Tensor = self.norm(x)
        return out
