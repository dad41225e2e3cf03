"""A pre-norm decoder: grouped-query attention with q/k norm, and a SwiGLU MLP.

Parameter names are those of published Qwen3-style checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from vivavoce.engines.layers.kv import KVBuffer, Placement
from vivavoce.engines.layers.rms_norm import RMSNorm
from vivavoce.engines.layers.rope import rotate


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


class Attention(nn.Module):
    """Grouped-query attention over a fixed buffer (Ainslie et al. 2023)."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        inner, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.shape = shape
        self.q_proj = nn.Linear(shape.hidden, inner, bias=False)
        self.k_proj = nn.Linear(shape.hidden, kv, bias=False)
        self.v_proj = nn.Linear(shape.hidden, kv, bias=False)
        self.o_proj = nn.Linear(inner, shape.hidden, bias=False)
        self.q_norm = RMSNorm(shape.head_dim, shape.norm_eps)
        self.k_norm = RMSNorm(shape.head_dim, shape.norm_eps)

    def forward(self, x: Tensor, at: Placement, kv: KVBuffer, layer: int) -> Tensor:
        """``x`` [B, T, hidden]; writes this layer's keys and values, returns [B, T, hidden]."""
        query = rotate(self.q_norm(self._heads(self.q_proj(x))), at.cos, at.sin)
        key = rotate(self.k_norm(self._heads(self.k_proj(x))), at.cos, at.sin)
        kv.write(layer, at, key, self._heads(self.v_proj(x)))
        keys, values = kv.read(layer, at.span)
        mixed: Tensor = self.o_proj(self._attend(query, keys, values, at.mask))
        return mixed

    def _heads(self, x: Tensor) -> Tensor:
        rows, steps = x.shape[:2]
        return x.view(rows, steps, -1, self.shape.head_dim).transpose(1, 2)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """[B, T, heads * head_dim]. Queries of one group become rows over their shared keys."""
        rows, heads, steps, size = query.shape
        groups = heads // self.shape.kv_heads
        query = query.reshape(rows, self.shape.kv_heads, groups * steps, size)
        if mask is not None and steps > 1:
            mask = mask.repeat(1, 1, groups, 1)
        out = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return out.reshape(rows, heads, steps, size).transpose(1, 2).flatten(2)


class SwiGLU(nn.Module):
    """Gated MLP (Shazeer 2020)."""

    def __init__(self, hidden: int, intermediate: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, intermediate, bias=False)
        self.up_proj = nn.Linear(hidden, intermediate, bias=False)
        self.down_proj = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] to [..., hidden]."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class DecoderLayer(nn.Module):
    """Attention and MLP, each on the normalised input and added to it."""

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

    def forward(self, x: Tensor, at: Placement, kv: KVBuffer) -> Tensor:
        """``x`` [B, T, hidden] to normalised hidden states [B, T, hidden]; fills ``kv``."""
        for number, layer in enumerate(self.layers):
            x = layer(x, at, kv, number)
        out: Tensor = self.norm(x)
        return out
