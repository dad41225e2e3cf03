"""The decoder's transformer over frames: causal attention over a window of the latest frames.

Keys and values of a row live in a ring: frame p in slot p mod slots. The ring is longer than the
window by a chunk, so that a chunk can be stored before its first frame looks back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.engines.qwen3.codec.carry import Carry, Carrying, Shapes
from vivavoce.engines.qwen3.codec_config import CodecDecoderConfig
from vivavoce.runtime.nn.decoder import SwiGLU
from vivavoce.runtime.nn.norm import RMSNorm
from vivavoce.runtime.nn.rope import rotate, turns


@dataclass(frozen=True)
class Window:
    """Where T new frames of every row go and what they see; the same for all layers.

    ``rows`` [B, 1] and ``slots`` [B, T] index the ring; ``cos``, ``sin`` [B, 1, T, head_dim];
    ``mask`` [B, 1, T, slots] is True where a frame looks.
    """

    rows: Tensor
    slots: Tensor
    cos: Tensor
    sin: Tensor
    mask: Tensor


def open_window(
    start: Tensor, frames: int, slots: int, config: CodecDecoderConfig, dtype: torch.dtype
) -> Window:
    """The window of ``frames`` new frames from position ``start`` [B] on; rows may differ."""
    at = start[:, None] + torch.arange(frames, device=start.device)
    latest = at[:, -1:]
    slot = torch.arange(slots, device=start.device)
    held = latest - torch.remainder(latest - slot, slots)  # the frame in each slot; < 0: none yet
    seen, now = held[:, None], at[..., None]
    mask = (seen >= 0) & (seen <= now) & (seen > now - config.sliding_window)
    cos, sin = rope_at(at, config.head_dim, config.rope_theta, dtype)
    rows = torch.arange(start.shape[0], device=start.device)[:, None]
    return Window(rows, torch.remainder(at, slots), cos, sin, mask[:, None])


def rope_at(
    positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [B, 1, T, head_dim] at ``positions`` [B, T], without a table's limit.

    Angles are computed in float32, as the published model does.
    """
    cos, sin = turns(positions[:, None, :, None].float(), head_dim, theta)
    return cos.to(dtype), sin.to(dtype)


class LayerScale(nn.Module):
    """A learnt factor for every channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [..., width], scaled."""
        return self.scale * x


class WindowAttention(Carrying):
    """Attention over the window; carries keys and values [B, kv_heads, slots, head_dim]."""

    def __init__(self, config: CodecDecoderConfig) -> None:
        super().__init__()
        inner = config.num_attention_heads * config.head_dim
        kv = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv, bias=False)
        self.o_proj = nn.Linear(inner, config.hidden_size, bias=False)
        self.head_dim, self.kv_heads = config.head_dim, config.num_key_value_heads
        self.grouped = config.num_key_value_heads != config.num_attention_heads
        self.back = config.sliding_window - 1

    def carried(self) -> Shapes:
        """The window's past; the state's maker adds the slots of one chunk."""
        shape = (self.kv_heads, self.back, self.head_dim)
        return {"keys": shape, "values": shape}

    def forward(self, x: Tensor, window: Window, carry: Carry) -> Tensor:
        """``x`` [B, T, hidden] to the same shape; stores the new keys and values."""
        query = rotate(self._heads(self.q_proj(x)), window.cos, window.sin)
        key = rotate(self._heads(self.k_proj(x)), window.cos, window.sin)
        keys = self._stored("keys", key, window, carry)
        values = self._stored("values", self._heads(self.v_proj(x)), window, carry)
        mixed = functional.scaled_dot_product_attention(
            query, keys, values, attn_mask=window.mask, enable_gqa=self.grouped
        )
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        rows, steps = x.shape[:2]
        return x.view(rows, steps, -1, self.head_dim).transpose(1, 2)

    def _stored(self, last: str, new: Tensor, window: Window, carry: Carry) -> Tensor:
        ring = carry.held[f"{self.place}.{last}"]
        index = (window.rows, slice(None), window.slots)
        new = new.transpose(1, 2)
        ring[index] = new if carry.active is None else carry.chosen(new, ring[index])
        return ring


class TransformerLayer(nn.Module):
    """Attention and MLP, each normalized, scaled and added."""

    def __init__(self, config: CodecDecoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.self_attn = WindowAttention(config)
        self.mlp = SwiGLU(width, config.intermediate_size)
        self.input_layernorm = RMSNorm(width, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(width, config.rms_norm_eps)
        self.self_attn_layer_scale = LayerScale(width)
        self.mlp_layer_scale = LayerScale(width)

    def forward(self, x: Tensor, window: Window, carry: Carry) -> Tensor:
        """``x`` [B, T, hidden] to the same shape."""
        attended = self.self_attn(self.input_layernorm(x), window, carry)
        x = x + self.self_attn_layer_scale(attended)
        out: Tensor = x + self.mlp_layer_scale(self.mlp(self.post_attention_layernorm(x)))
        return out


class FrameTransformer(nn.Module):
    """Latents of frames to latents that know the frames before them."""

    def __init__(self, config: CodecDecoderConfig) -> None:
        super().__init__()
        self.input_proj = nn.Linear(config.latent_dim, config.hidden_size)
        self.layers = nn.ModuleList(
            TransformerLayer(config) for _ in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.output_proj = nn.Linear(config.hidden_size, config.latent_dim)

    def forward(self, x: Tensor, window: Window, carry: Carry) -> Tensor:
        """``x`` [B, T, latent] to the same shape."""
        x = self.input_proj(x)
        for layer in self.layers:
            x = layer(x, window, carry)
        out: Tensor = self.output_proj(self.norm(x))
        return out
