"""The decoder of a NeuTTS backbone: Qwen2, Llama or Qwen3, with the head cut to what it may say.

Projections that read the same input are one matrix (``qkv``, ``gate_up``): fewer, larger kernels.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.engines.neutts.torch_lm.attention import Attend, sdpa
from vivavoce.engines.neutts.torch_lm.config import LmConfig
from vivavoce.engines.neutts.torch_lm.kv import KVBuffer, Placement
from vivavoce.engines.neutts.torch_lm.rope import turn


class Cache(Protocol):
    """Where keys and values are kept: ``KVBuffer``, or one row of it."""

    def write(self, layer: int, at: Placement, keys: Tensor, values: Tensor) -> None:
        """Store [B, KV, T, D] at the placement's rows and positions."""

    def read(self, layer: int, span: int) -> tuple[Tensor, Tensor]:
        """The first ``span`` positions of a layer: two [B, KV, span, D]."""


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


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023); bias and q/k norm as the model has them."""

    def __init__(self, config: LmConfig) -> None:
        super().__init__()
        heads, groups, size = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        self.heads, self.groups, self.size = heads, groups, size
        self.attend: Attend = sdpa
        self.qkv = nn.Linear(config.hidden_size, (heads + 2 * groups) * size, bias=config.qkv_bias)
        self.o_proj = nn.Linear(heads * size, config.hidden_size, bias=False)
        self.qk_norm = config.qk_norm
        if config.qk_norm:
            self.q_norm = nn.RMSNorm(size, config.rms_norm_eps)
            self.k_norm = nn.RMSNorm(size, config.rms_norm_eps)

    def forward(self, x: Tensor, at: Placement, cache: Cache, layer: int) -> Tensor:
        """``x`` [B, T, hidden]; writes this layer's keys and values, returns [B, T, hidden]."""
        rows, steps = x.shape[:2]
        parts = self.qkv(x).view(rows, steps, -1, self.size).transpose(1, 2)
        both, value = torch.split(parts, [self.heads + self.groups, self.groups], 1)
        both = turn(self._normed(both), at.cos, at.sin)
        query, key = torch.split(both, [self.heads, self.groups], 1)
        cache.write(layer, at, key, value)
        keys, values = cache.read(layer, at.span)
        mixed: Tensor = self.o_proj(self._mix(query, keys, values, at.mask))
        return mixed

    def _normed(self, both: Tensor) -> Tensor:
        """Queries' and keys' heads [B, heads + groups, T, D], normalized where the model does."""
        if not self.qk_norm:
            return both
        query, key = torch.split(both, [self.heads, self.groups], 1)
        return torch.cat((self.q_norm(query), self.k_norm(key)), 1)

    def _mix(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """[B, T, heads * D]. Queries of one group become rows over their shared keys."""
        rows, heads, steps, size = query.shape
        shared = heads // self.groups
        query = query.reshape(rows, self.groups, shared * steps, size)
        if mask is not None and steps > 1:
            mask = mask.repeat(1, 1, shared, 1)
        out = (self.attend if steps == 1 else sdpa)(query, keys, values, mask)
        return out.reshape(rows, heads, steps, size).transpose(1, 2).flatten(2)


class Mlp(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, config: LmConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] to [..., hidden]."""
        gate, up = self.gate_up(x).chunk(2, -1)
        out: Tensor = self.down_proj(functional.silu(gate) * up)
        return out


class Layer(nn.Module):
    """Attention and MLP, each on the normalized input and added to it."""

    def __init__(self, config: LmConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = Mlp(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, at: Placement, cache: Cache, layer: int) -> Tensor:
        """``x`` [B, T, hidden] to the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), at, cache, layer)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class SpeechLm(nn.Module):
    """Token ids of the whole vocabulary in, scores of ``choices`` tokens out.

    The head's rows are END and the speech codes in order. The embedding table may have another
    dtype than the rest.
    """

    def __init__(self, config: LmConfig, choices: int) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.head = nn.Linear(config.hidden_size, choices, bias=False)

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in."""
        return self.norm.weight.dtype

    def forward(self, ids: Tensor, at: Placement, cache: Cache) -> Tensor:
        """``ids`` [B, T] to normalized hidden states [B, T, hidden]; fills ``cache``."""
        x = self.embed_tokens(ids).to(self.dtype)
        for number, layer in enumerate(self.layers):
            x = layer(x, at, cache, number)
        out: Tensor = self.norm(x)
        return out

    def scores(self, hidden: Tensor) -> Tensor:
        """[B, hidden] to float32 [B, choices]."""
        logits: Tensor = self.head(hidden)
        return logits.float()

    def set_attention(self, attend: Attend) -> None:
        """How single tokens attend."""
        for module in self.modules():
            if isinstance(module, Attention):
                module.attend = attend
