"""The decoder in PyTorch; module names are those of the published checkpoints."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.engines.neutts.codec.codec import HOP
from vivavoce.engines.neutts.codec.fsq import BASIS, DIGITS, LEVELS
from vivavoce.engines.neutts.codec.istft import BINS, CUT, FRAME, MAX_MAGNITUDE, hann
from vivavoce.engines.neutts.codec.network import (
    BLOCK_KERNEL,
    EMBED_KERNEL,
    EPSILON,
    GROUPS,
    RESIDUAL_BLOCKS,
    DecoderShape,
)
from vivavoce.runtime.nn.norm import RMSNorm


class ResidualBlock(nn.Module):
    """Two rounds of group norm, swish and convolution, added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels, EPSILON)
        self.conv1 = nn.Conv1d(channels, channels, BLOCK_KERNEL, padding="same")
        self.norm2 = nn.GroupNorm(GROUPS, channels, EPSILON)
        self.conv2 = nn.Conv1d(channels, channels, BLOCK_KERNEL, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, T] to the same."""
        y = self.conv1(functional.silu(self.norm1(x)))
        out: Tensor = x + self.conv2(functional.silu(self.norm2(y)))
        return out


class Attention(nn.Module):
    """Every code sees every code."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(hidden, 3 * hidden, bias=False)
        self.c_proj = nn.Linear(hidden, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        parts = self.c_attn(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.c_proj(seen.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """Two layers with a swish between them."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden, inner, bias=False)
        self.fc2 = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        out: Tensor = self.fc2(functional.silu(self.fc1(x)))
        return out


class TransformerBlock(nn.Module):
    """Attention and MLP, each on the normalized input and added to it."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.att_norm = RMSNorm(shape.hidden, EPSILON)
        self.ffn_norm = RMSNorm(shape.hidden, EPSILON)
        self.att = Attention(shape.hidden, shape.heads)
        self.mlp = Mlp(shape.hidden, shape.mlp)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        x = x + self.att(self.att_norm(x))
        out: Tensor = x + self.mlp(self.ffn_norm(x))
        return out


class Backbone(nn.Module):
    """Convolutions, transformer, convolutions."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        hidden = shape.hidden
        self.embed = nn.Conv1d(hidden, hidden, EMBED_KERNEL, padding="same")
        self.prior_net = nn.Sequential(*(ResidualBlock(hidden) for _ in range(RESIDUAL_BLOCKS)))
        self.transformers = nn.Sequential(*(TransformerBlock(shape) for _ in range(shape.depth)))
        self.post_net = nn.Sequential(*(ResidualBlock(hidden) for _ in range(RESIDUAL_BLOCKS)))
        self.final_layer_norm = nn.LayerNorm(hidden, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        x = self.prior_net(self.embed(x.transpose(1, 2)))
        x = self.post_net(self.transformers(x.transpose(1, 2)).transpose(1, 2))
        out: Tensor = self.final_layer_norm(x.transpose(1, 2))
        return out


class IstftHead(nn.Module):
    """Log magnitudes and phases, and the sound they are of; always float32."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.out = nn.Linear(hidden, 2 * BINS)
        self.register_buffer("window", torch.from_numpy(hann()).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to [B, 480 * T]."""
        magnitude, phase = self.out(x.float()).chunk(2, -1)
        spectrum = torch.polar(magnitude.exp().clamp(max=MAX_MAGNITUDE), phase)
        window: Tensor = self.get_buffer("window")
        frames = torch.fft.irfft(spectrum, FRAME) * window
        energy = overlapped(window.square().expand(1, x.shape[1], -1))
        return (overlapped(frames) / energy.clamp(min=1e-11))[:, CUT:-CUT]


def overlapped(frames: Tensor) -> Tensor:
    """Frames [B, T, 1920], each a hop after the last, summed: [B, 480 * (T + 3)]."""
    rows, count, size = frames.shape
    total = frames.new_zeros(rows, count + size // HOP - 1, HOP)
    for number, part in enumerate(torch.unflatten(frames, -1, (-1, HOP)).unbind(2)):
        total[:, number : number + count] += part
    return total.flatten(1)


class Quantizer(nn.Module):
    """From codes to vectors."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.project_out = nn.Linear(DIGITS, size)
        self.register_buffer("basis", torch.from_numpy(BASIS.astype(np.int64)), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Int [B, T] to [B, T, size]."""
        digits = codes[..., None].div(self.get_buffer("basis"), rounding_mode="floor") % LEVELS
        half = LEVELS // 2
        out: Tensor = self.project_out((digits - half).to(self.project_out.weight.dtype) / half)
        return out


class Generator(nn.Module):
    """What the published checkpoints call ``generator``."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.quantizer = Quantizer(shape.quantizer)
        self.backbone = Backbone(shape)
        self.head = IstftHead(shape.hidden)


class NeuCodecDecoder(nn.Module):
    """Codes to sound."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.generator = Generator(shape)
        self.fc_post_a = nn.Linear(shape.quantizer, shape.hidden)

    def forward(self, codes: Tensor) -> Tensor:
        """Int [B, T] to float32 [B, 480 * T]."""
        x = self.fc_post_a(self.generator.quantizer(codes))
        out: Tensor = self.generator.head(self.generator.backbone(x))
        return out
