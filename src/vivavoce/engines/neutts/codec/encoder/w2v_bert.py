"""w2v-BERT 2.0 (Barrault et al. 2023) up to the layer the codec listens to: a Conformer (Gulati et
al. 2020) with clipped relative positions (Shaw et al. 2018) and causal convolutions.

Names are those of ``facebook/w2v-bert-2.0``. Of its 24 layers the codec uses what 16 make; the
rest is not built.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.types import Samples

FRAME, HOP, FFT = 400, 160, 512
RATE_HZ = 16_000
BANDS = 80
LOW_HZ = 20.0
STACKED = 2
EMPHASIS = 0.97
FULL_SCALE = 32_768
FLOOR = float(np.finfo(np.float32).eps)


def stacked_features(samples: Samples) -> NDArray[np.float32]:
    """Mono 16 kHz (n,), n >= 560, to normalized features (frames // 2, 160)."""
    bands = log_mel(samples)
    mean, spread = bands.mean(0), bands.var(0, ddof=1)
    normal = (bands - mean) / np.sqrt(spread + 1e-7)
    whole = len(normal) // STACKED * STACKED
    return normal[:whole].reshape(-1, STACKED * BANDS).astype(np.float32)


def log_mel(samples: Samples) -> NDArray[np.float32]:
    """Mono 16 kHz (n,) to (1 + (n - 400) // 160, 80), natural logarithms."""
    scaled = samples.astype(np.float64) * FULL_SCALE
    frames = np.lib.stride_tricks.sliding_window_view(scaled, FRAME)[::HOP]
    frames = frames - frames.mean(1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], 1)
    window = np.hanning(FRAME) ** 0.85
    power = np.abs(np.fft.rfft((frames - EMPHASIS * before) * window, FFT)) ** 2
    return np.log(np.maximum(power @ _filters(), FLOOR)).astype(np.float32)


@cache
def _filters() -> NDArray[np.float64]:
    """(257, 80)."""
    low, high = _mel(np.array([LOW_HZ, RATE_HZ / 2])).tolist()
    edges = np.linspace(low, high, BANDS + 2)
    at = _mel(np.arange(FFT // 2 + 1) * RATE_HZ / FFT)[:, None]
    widths = np.diff(edges)
    rising, falling = (at - edges[:-2]) / widths[:-1], (edges[2:] - at) / widths[1:]
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return filters


def _mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1127.0 * np.log(1.0 + hz / 700.0)


LAYERS = 16
LEFT, RIGHT = 64, 8
CONV_KERNEL = 31


@dataclass(frozen=True, slots=True)
class ConformerShape:
    """The published sizes."""

    features: int = 160
    hidden: int = 1024
    intermediate: int = 4096
    heads: int = 16
    layers: int = LAYERS


class FeedForward(nn.Module):
    """Two layers with a swish between them."""

    def __init__(self, shape: ConformerShape) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(shape.hidden, shape.intermediate)
        self.output_dense = nn.Linear(shape.intermediate, shape.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        out: Tensor = self.output_dense(functional.silu(self.intermediate_dense(x)))
        return out


class SelfAttention(nn.Module):
    """Keys are shifted by an embedding of how far they are away, at most 64 back and 8 ahead."""

    def __init__(self, shape: ConformerShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.linear_q = nn.Linear(shape.hidden, shape.hidden)
        self.linear_k = nn.Linear(shape.hidden, shape.hidden)
        self.linear_v = nn.Linear(shape.hidden, shape.hidden)
        self.linear_out = nn.Linear(shape.hidden, shape.hidden)
        self.distance_embedding = nn.Embedding(LEFT + RIGHT + 1, shape.hidden // shape.heads)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.linear_q, self.linear_k, self.linear_v)
        )
        at = torch.arange(x.shape[1], device=x.device)
        away = (at - at[:, None]).clamp(-LEFT, RIGHT) + LEFT
        # Every query times every distance, then each key takes that of its own.
        by_distance = query @ self.distance_embedding.weight.T
        bias = by_distance.gather(-1, away.expand(*by_distance.shape[:2], -1, -1))
        bias = bias * query.shape[-1] ** -0.5
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed: Tensor = self.linear_out(out.transpose(1, 2).flatten(2))
        return mixed


class ConvolutionModule(nn.Module):
    """Gate, causal depth-wise convolution, norm, swish."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(hidden)
        self.pointwise_conv1 = nn.Conv1d(hidden, 2 * hidden, 1, bias=False)
        self.depthwise_conv = nn.Conv1d(hidden, hidden, CONV_KERNEL, groups=hidden, bias=False)
        self.depthwise_layer_norm = nn.LayerNorm(hidden)
        self.pointwise_conv2 = nn.Conv1d(hidden, hidden, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        y = functional.glu(self.pointwise_conv1(self.layer_norm(x).transpose(1, 2)), 1)
        y = self.depthwise_conv(functional.pad(y, (CONV_KERNEL - 1, 0)))
        y = functional.silu(self.depthwise_layer_norm(y.transpose(1, 2)))
        out: Tensor = self.pointwise_conv2(y.transpose(1, 2)).transpose(1, 2)
        return out


class ConformerLayer(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, norm."""

    def __init__(self, shape: ConformerShape) -> None:
        super().__init__()
        self.ffn1_layer_norm = nn.LayerNorm(shape.hidden)
        self.ffn1 = FeedForward(shape)
        self.self_attn_layer_norm = nn.LayerNorm(shape.hidden)
        self.self_attn = SelfAttention(shape)
        self.conv_module = ConvolutionModule(shape.hidden)
        self.ffn2_layer_norm = nn.LayerNorm(shape.hidden)
        self.ffn2 = FeedForward(shape)
        self.final_layer_norm = nn.LayerNorm(shape.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        x = x + 0.5 * self.ffn1(self.ffn1_layer_norm(x))
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        x = x + self.conv_module(x)
        x = x + 0.5 * self.ffn2(self.ffn2_layer_norm(x))
        out: Tensor = self.final_layer_norm(x)
        return out


class FeatureProjection(nn.Module):
    """From filter banks to the model's width."""

    def __init__(self, shape: ConformerShape) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(shape.features)
        self.projection = nn.Linear(shape.features, shape.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, features] to [B, T, hidden]."""
        out: Tensor = self.projection(self.layer_norm(x))
        return out


class Layers(nn.Module):
    """What the published names call ``encoder``."""

    def __init__(self, shape: ConformerShape) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConformerLayer(shape) for _ in range(shape.layers))


class W2vBert(nn.Module):
    """Filter banks to the hidden states after ``shape.layers`` layers."""

    def __init__(self, shape: ConformerShape) -> None:
        super().__init__()
        self.feature_projection = FeatureProjection(shape)
        self.encoder = Layers(shape)

    def forward(self, features: Tensor) -> Tensor:
        """[B, T, features] to [B, T, hidden]."""
        x: Tensor = self.feature_projection(features)
        for layer in self.encoder.layers:
            x = layer(x)
        return x
