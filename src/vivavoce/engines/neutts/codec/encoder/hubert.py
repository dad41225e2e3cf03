"""DistilHuBERT (Chang et al. 2022): HuBERT (Hsu et al. 2021) with two layers.

Names are those of ``ntu-spml/distilhubert``; its features are projected without a norm.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
POSITION_KERNEL, POSITION_GROUPS = 128, 16


@dataclass(frozen=True, slots=True)
class HubertShape:
    """The published sizes."""

    channels: int = 512
    hidden: int = 768
    intermediate: int = 3072
    heads: int = 12
    layers: int = 2


class ConvLayer(nn.Module):
    """A strided convolution, the first with a norm of each channel."""

    def __init__(self, inputs: int, outputs: int, number: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, KERNELS[number], STRIDES[number], bias=False)
        self.layer_norm = nn.GroupNorm(outputs, outputs) if number == 0 else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, T] to [B, outputs, about T / stride]."""
        x = self.conv(x)
        return functional.gelu(x if self.layer_norm is None else self.layer_norm(x))


class FeatureExtractor(nn.Module):
    """16 kHz to 50 vectors a second."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_layers = nn.Sequential(
            *(ConvLayer(channels if i else 1, channels, i) for i in range(len(KERNELS)))
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, n] to [B, T, channels]."""
        out: Tensor = self.conv_layers(x[:, None]).transpose(1, 2)
        return out


class Projection(nn.Module):
    """To the transformer's width."""

    def __init__(self, shape: HubertShape) -> None:
        super().__init__()
        self.projection = nn.Linear(shape.channels, shape.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, channels] to [B, T, hidden]."""
        out: Tensor = self.projection(x)
        return out


class Attention(nn.Module):
    """Every frame sees every frame."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(hidden, hidden)
        self.k_proj = nn.Linear(hidden, hidden)
        self.v_proj = nn.Linear(hidden, hidden)
        self.out_proj = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        parts = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        seen = functional.scaled_dot_product_attention(*parts)
        out: Tensor = self.out_proj(seen.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Two layers with a GELU between them."""

    def __init__(self, shape: HubertShape) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(shape.hidden, shape.intermediate)
        self.output_dense = nn.Linear(shape.intermediate, shape.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        out: Tensor = self.output_dense(functional.gelu(self.intermediate_dense(x)))
        return out


class Layer(nn.Module):
    """Attention and feed-forward, each normalized after it was added."""

    def __init__(self, shape: HubertShape) -> None:
        super().__init__()
        self.attention = Attention(shape.hidden, shape.heads)
        self.layer_norm = nn.LayerNorm(shape.hidden)
        self.feed_forward = FeedForward(shape)
        self.final_layer_norm = nn.LayerNorm(shape.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        x = self.layer_norm(x + self.attention(x))
        out: Tensor = self.final_layer_norm(x + self.feed_forward(x))
        return out


class PositionEmbedding(nn.Module):
    """Positions as a wide convolution of what is there."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        side = POSITION_KERNEL // 2
        self.conv = nn.Conv1d(hidden, hidden, POSITION_KERNEL, padding=side, groups=POSITION_GROUPS)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same; an even kernel makes one frame too many."""
        out: Tensor = functional.gelu(self.conv(x.transpose(1, 2))[..., :-1]).transpose(1, 2)
        return out


class Encoder(nn.Module):
    """Positions, norm, layers."""

    def __init__(self, shape: HubertShape) -> None:
        super().__init__()
        self.pos_conv_embed = PositionEmbedding(shape.hidden)
        self.layer_norm = nn.LayerNorm(shape.hidden)
        self.layers = nn.Sequential(*(Layer(shape) for _ in range(shape.layers)))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        out: Tensor = self.layers(self.layer_norm(x + self.pos_conv_embed(x)))
        return out


class Hubert(nn.Module):
    """Samples to hidden states."""

    def __init__(self, shape: HubertShape) -> None:
        super().__init__()
        self.feature_extractor = FeatureExtractor(shape.channels)
        self.feature_projection = Projection(shape)
        self.encoder = Encoder(shape)

    def forward(self, samples: Tensor) -> Tensor:
        """[B, n] at 16 kHz to [B, (n - 80) // 320, hidden]."""
        out: Tensor = self.encoder(self.feature_projection(self.feature_extractor(samples)))
        return out
