"""The speaker encoder of the base models: a recording to one vector (ECAPA-TDNN).

Desplanques et al. 2020, without batch normalization and without a norm of the output.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.engines.qwen3.config import SpeakerEncoderConfig
from vivavoce.engines.qwen3.mel import log_mel
from vivavoce.errors import ModelFileError

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.checkpoint import Checkpoint

PREFIX = "speaker_encoder."


class SameConv(nn.Module):
    """A convolution that keeps the length, then a ReLU; the ends are mirrored."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            inputs,
            outputs,
            kernel,
            dilation=dilation,
            padding="same",
            padding_mode="reflect" if kernel > 1 else "zeros",
        )

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, inputs, T] to [B, outputs, T]."""
        return functional.relu(self.conv(x))


class Res2Net(nn.Module):
    """Convolutions over parts of the channels, each part added to the next (Gao et al. 2019)."""

    def __init__(self, width: int, config: SpeakerEncoderConfig, layer: int) -> None:
        super().__init__()
        self.parts = config.enc_res2net_scale
        part = width // self.parts
        kernel, dilation = config.enc_kernel_sizes[layer], config.enc_dilations[layer]
        self.blocks = nn.ModuleList(
            SameConv(part, part, kernel, dilation) for _ in range(self.parts - 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, width, T] to the same shape."""
        first, *rest = x.chunk(self.parts, 1)
        done = [first]
        for index, (block, part) in enumerate(zip(self.blocks, rest, strict=True)):
            done.append(block(part + done[-1] if index else part))
        return torch.cat(done, 1)


class SqueezeExcitation(nn.Module):
    """Weights channels by what the whole recording holds (Hu et al. 2018)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(width, inner, 1)
        self.conv2 = nn.Conv1d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, width, T] to the same shape."""
        squeezed = functional.relu(self.conv1(x.mean(2, keepdim=True)))
        return x * torch.sigmoid(self.conv2(squeezed))


class Block(nn.Module):
    """Res2Net between two convolutions, squeeze-excitation, added to the input."""

    def __init__(self, config: SpeakerEncoderConfig, layer: int) -> None:
        super().__init__()
        before, width = config.enc_channels[layer - 1 : layer + 1]
        self.tdnn1 = SameConv(before, width)
        self.res2net_block = Res2Net(width, config, layer)
        self.tdnn2 = SameConv(width, width)
        self.se_block = SqueezeExcitation(width, config.enc_se_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, before, T] to [B, width, T]."""
        out: Tensor = self.se_block(self.tdnn2(self.res2net_block(self.tdnn1(x)))) + x
        return out


class AttentivePooling(nn.Module):
    """Mean and deviation over time, weighted by an attention over frames (Okabe et al. 2018)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.tdnn = SameConv(3 * width, inner)
        self.conv = nn.Conv1d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, width, T] to [B, 2 * width, 1]."""
        whole = torch.cat([part.expand_as(x) for part in _moments(x, 1.0 / x.shape[2])], 1)
        weights = self.conv(torch.tanh(self.tdnn(torch.cat((x, whole), 1)))).softmax(2)
        return torch.cat(_moments(x, weights), 1)


class SpeakerEncoder(nn.Module):
    """Samples to a speaker's vector; parameters are named as below ``speaker_encoder.``."""

    def __init__(self, config: SpeakerEncoderConfig) -> None:
        super().__init__()
        channels, kernels = config.enc_channels, config.enc_kernel_sizes
        self.config = config
        first = SameConv(config.mel_dim, channels[0], kernels[0], config.enc_dilations[0])
        blocks = [Block(config, layer) for layer, _ in enumerate(pairwise(channels[:-1]), 1)]
        self.blocks = nn.ModuleList([first, *blocks])
        self.mfa = SameConv(channels[-1], channels[-1], kernels[-1], config.enc_dilations[-1])
        self.asp = AttentivePooling(channels[-1], config.enc_attention_channels)
        self.fc = nn.Conv1d(2 * channels[-1], config.enc_dim, 1)
        self.requires_grad_(False)

    def forward(self, samples: Tensor) -> Tensor:
        """Mono samples [L] at 24 kHz, a second or more, to a vector [enc_dim]."""
        mel = log_mel(samples.to(self.fc.weight), self.config.mel_dim)
        return self.embed(mel)

    def embed(self, mel: Tensor) -> Tensor:
        """A log mel spectrogram [mel_dim, T] to a vector [enc_dim]."""
        first, *blocks = self.blocks
        x, outputs = first(mel[None]), []
        for block in blocks:
            x = block(x)
            outputs.append(x)
        vector: Tensor = self.fc(self.asp(self.mfa(torch.cat(outputs, 1))))
        return vector[0, :, 0]


def load_speaker_encoder(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> SpeakerEncoder:
    """The speaker encoder of a base model. Raises ModelFileError."""
    config = checkpoint.config.speaker_encoder
    if config is None:
        raise ModelFileError(f"{checkpoint.folder} is no base model: it has no speaker encoder.")
    with torch.device("meta"):
        encoder = SpeakerEncoder(config)
    checkpoint.load_into(encoder, PREFIX, dtype=dtype, device=device)
    return encoder.eval()


def _moments(x: Tensor, weights: Tensor | float) -> tuple[Tensor, Tensor]:
    """Weighted mean and deviation of ``x`` [B, width, T] over time: two [B, width, 1]."""
    mean = (weights * x).sum(2, keepdim=True)
    variance = (weights * (x - mean).square()).sum(2, keepdim=True)
    return mean, variance.clamp(min=1e-12).sqrt()
