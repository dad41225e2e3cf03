"""The decoder's convolutions, from a latent a frame to 1920 samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.engines.qwen3.codec.carry import Carry, CausalConv1d, CausalTransposedConv1d
from vivavoce.engines.qwen3.codec_config import CodecDecoderConfig

KERNEL = 7
DILATIONS = (1, 3, 9)


class SnakeBeta(nn.Module):
    """x + sin²(x·exp α) / (exp β + 1e-9) for every channel (Ziyin et al. 2020; BigVGAN).

    ``fold`` must be called after α and β were loaded.
    """

    frequency: Tensor
    gain: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(width))
        self.beta = nn.Parameter(torch.zeros(width))
        self.register_buffer("frequency", torch.ones(width, 1), persistent=False)
        self.register_buffer("gain", torch.ones(width, 1), persistent=False)

    def fold(self) -> None:
        """Compute what depends on the parameters alone."""
        self.frequency = self.alpha.data.exp()[:, None]
        self.gain = 1.0 / (self.beta.data.exp()[:, None] + 1e-9)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, width, T] to the same shape."""
        wave = (x * self.frequency).sin_().square_()
        return torch.addcmul(x, wave, self.gain)


class ConvNeXtBlock(nn.Module):
    """A causal depthwise convolution and an MLP over channels (Liu et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = CausalConv1d(width, width, KERNEL, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """``x`` [B, width, T] to the same shape."""
        inner = self.norm(self.dwconv(x, carry).transpose(1, 2))
        inner = self.gamma * self.pwconv2(functional.gelu(self.pwconv1(inner)))
        return x + inner.transpose(1, 2)


class ResidualUnit(nn.Module):
    """A dilated convolution and one over channels, added to the input."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.act1 = SnakeBeta(width)
        self.conv1 = CausalConv1d(width, width, KERNEL, dilation=dilation)
        self.act2 = SnakeBeta(width)
        self.conv2 = CausalConv1d(width, width, 1)

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """``x`` [B, width, T] to the same shape."""
        inner = self.conv1(self.act1(x), carry)
        out: Tensor = x + self.conv2(self.act2(inner), carry)
        return out


class UpsampleBlock(nn.Module):
    """Half the channels at ``rate`` times the rate."""

    def __init__(self, width: int, rate: int) -> None:
        super().__init__()
        units = [ResidualUnit(width // 2, dilation) for dilation in DILATIONS]
        self.block = nn.ModuleList(
            [SnakeBeta(width), CausalTransposedConv1d(width, width // 2, 2 * rate, rate), *units]
        )

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """``x`` [B, width, T] to [B, width / 2, T * rate]."""
        activation, *rest = self.block
        x = activation(x)
        for layer in rest:
            x = layer(x, carry)
        return x


class UpsampleStage(nn.ModuleList):
    """The same channels at ``ratio`` times the rate; its two layers are numbered, not named."""

    def __init__(self, width: int, ratio: int) -> None:
        up = CausalTransposedConv1d(width, width, ratio, ratio)
        super().__init__([up, ConvNeXtBlock(width)])

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """``x`` [B, width, T] to [B, width, T * ratio]."""
        for layer in self:
            x = layer(x, carry)
        return x


def upsample_stages(config: CodecDecoderConfig) -> nn.ModuleList:
    """Latents at the frame rate to latents at four times that."""
    ratios = config.upsampling_ratios
    return nn.ModuleList(UpsampleStage(config.latent_dim, ratio) for ratio in ratios)


def waveform_stages(config: CodecDecoderConfig) -> nn.ModuleList:
    """Latents to one channel of samples: layers to be applied in turn."""
    width = config.decoder_dim
    stages: list[nn.Module] = [CausalConv1d(config.latent_dim, width, KERNEL)]
    for rate in config.upsample_rates:
        stages.append(UpsampleBlock(width, rate))
        width //= 2
    return nn.ModuleList([*stages, SnakeBeta(width), CausalConv1d(width, 1, KERNEL)])
