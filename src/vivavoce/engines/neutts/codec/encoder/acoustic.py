"""The full encoder's acoustic half: strided convolutions with anti-aliased periodic activations.

SnakeBeta is BigVGAN's (Lee et al., ICLR 2023), computed at twice the rate between two low-pass
filters (Karras et al. 2021). Names are the published ones below ``CodecEnc``; the filters are
computed, not read.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (2, 2, 4, 4, 5)
DILATIONS = (1, 3, 9)
TAPS = 12
CUTOFF, HALF_WIDTH = 0.25, 0.3
NO_ZERO = 1e-9


def low_pass() -> Tensor:
    """A Kaiser-windowed sinc of 12 taps that sums to 1, float32."""
    attenuation_db = 2.285 * (TAPS // 2 - 1) * np.pi * 4 * HALF_WIDTH + 7.95
    window = np.kaiser(TAPS, 0.1102 * (attenuation_db - 8.7))
    taps = window * np.sinc(2 * CUTOFF * (np.arange(TAPS) - TAPS / 2 + 0.5))
    return torch.from_numpy(taps / taps.sum()).float()


class SnakeBeta(nn.Module):
    """x + sin²(x e^alpha) / e^beta for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, T] to the same."""
        alpha, beta = self.alpha.exp()[:, None], self.beta.exp()[:, None]
        return x + (x * alpha).sin().square() / (beta + NO_ZERO)


class SmoothActivation(nn.Module):
    """The activation at twice the rate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.act = SnakeBeta(channels)
        self.register_buffer("taps", low_pass(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, T] to the same."""
        channels = x.shape[1]
        taps = self.get_buffer("taps").expand(channels, 1, -1)
        edge = TAPS // 2 - 1
        x = functional.pad(x, (edge, edge), mode="replicate")
        x = 2 * functional.conv_transpose1d(x, taps, stride=2, groups=channels)
        cut = 2 * edge + (TAPS - 2) // 2
        x = functional.pad(self.act(x[..., cut:-cut]), (edge, edge + 1), mode="replicate")
        return functional.conv1d(x, taps, stride=2, groups=channels)


class ResidualUnit(nn.Module):
    """Activation, dilated convolution, activation, point-wise convolution, added."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            SmoothActivation(channels),
            nn.Conv1d(channels, channels, 7, dilation=dilation, padding=3 * dilation),
            SmoothActivation(channels),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, T] to the same."""
        out: Tensor = x + self.block(x)
        return out


class EncoderBlock(nn.Module):
    """Three residual units, then half as fine and twice as wide."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        padding = stride // 2 + stride % 2
        self.block = nn.Sequential(
            *(ResidualUnit(channels, dilation) for dilation in DILATIONS),
            SmoothActivation(channels),
            nn.Conv1d(channels, 2 * channels, 2 * stride, stride=stride, padding=padding),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, T] to [B, 2 * channels, T / stride]."""
        out: Tensor = self.block(x)
        return out


class AcousticEncoder(nn.Module):
    """16 kHz to 50 vectors a second."""

    def __init__(self, first: int = 48, hidden: int = 1024) -> None:
        super().__init__()
        widths = [first << number for number in range(len(STRIDES) + 1)]
        blocks = (
            EncoderBlock(width, stride) for width, stride in zip(widths, STRIDES, strict=False)
        )
        self.conv_blocks = nn.Sequential(nn.Conv1d(1, first, 7, padding=3), *blocks)
        self.conv_final_block = nn.Sequential(
            SmoothActivation(widths[-1]), nn.Conv1d(widths[-1], hidden, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, 320 * T] to [B, hidden, T]."""
        out: Tensor = self.conv_final_block(self.conv_blocks(x))
        return out


class SemanticEncoder(nn.Module):
    """Convolutions over the semantic model's vectors (``SemanticEncoder_module``).

    The published code adds what its first, in-place ReLU has already altered; so does this.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int = 1024) -> None:
        super().__init__()
        self.initial_conv = nn.Conv1d(inputs, hidden, 3, padding=1, bias=False)
        self.residual_blocks = nn.ModuleDict(
            {name: nn.Conv1d(hidden, hidden, 3, padding=1) for name in ("1", "3")}
        )
        self.final_conv = nn.Conv1d(hidden, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, T] to [B, outputs, T]."""
        x = self.initial_conv(x).relu()
        y = self.residual_blocks["3"](self.residual_blocks["1"](x).relu())
        out: Tensor = self.final_conv(x + y)
        return out
