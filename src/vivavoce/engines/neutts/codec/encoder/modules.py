"""The two encoders whole: a recording at 16 kHz to what the quantizer rounds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from vivavoce.engines.neutts.codec.encoder.acoustic import AcousticEncoder, SemanticEncoder
from vivavoce.engines.neutts.codec.encoder.distilled import DistilledAcoustic, DistilledShape
from vivavoce.engines.neutts.codec.encoder.hubert import Hubert, HubertShape
from vivavoce.engines.neutts.codec.encoder.w2v_bert import ConformerShape, W2vBert, stacked_features
from vivavoce.engines.neutts.codec.network import DIGITS, nearest_codes
from vivavoce.engines.neutts.codec.stream import Codes
from vivavoce.types import Samples

SIDE = 160
"""Zeros at both ends of what DistilHuBERT hears, so that it makes as many frames as there are
codes."""


@dataclass(frozen=True, slots=True)
class FullShape:
    """The published sizes of ``neucodec``."""

    first: int = 48
    hidden: int = 1024
    quantizer: int = 2048
    semantic: ConformerShape = field(default_factory=ConformerShape)


@dataclass(frozen=True, slots=True)
class SmallShape:
    """The published sizes of ``distill-neucodec``."""

    acoustic: DistilledShape = field(default_factory=DistilledShape)
    joined: int = 768
    quantizer: int = 2048
    semantic_channels: int = 1024
    semantic: HubertShape = field(default_factory=HubertShape)


class Projection(nn.Module):
    """``generator.quantizer`` as an encoder needs it."""

    def __init__(self, quantizer: int) -> None:
        super().__init__()
        self.quantizer = nn.ModuleDict({"project_in": nn.Linear(quantizer, DIGITS)})

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, quantizer] to [B, T, 8]."""
        out: Tensor = self.quantizer["project_in"](x)
        return out


class FullEncoder(nn.Module):
    """``neucodec``'s: w2v-BERT 2.0 and strided convolutions side by side."""

    def __init__(self, shape: FullShape) -> None:
        super().__init__()
        self.semantic_model = W2vBert(shape.semantic)
        self.SemanticEncoder_module = SemanticEncoder(
            shape.semantic.hidden, shape.hidden, shape.hidden
        )
        self.CodecEnc = AcousticEncoder(shape.first, shape.hidden)
        self.fc_prior = nn.Linear(2 * shape.hidden, shape.quantizer)
        self.generator = Projection(shape.quantizer)

    def forward(self, samples: Tensor) -> Tensor:
        """[n] at 16 kHz, n a multiple of 320, to [T, 8]; T = n / 320 - 1."""
        features = torch.from_numpy(stacked_features(samples.cpu().numpy())).to(samples)
        hidden = self.semantic_model(features[None])
        semantic = self.SemanticEncoder_module(hidden.transpose(1, 2))
        return joined(semantic, self.CodecEnc(samples[None, None]), self.fc_prior, self.generator)


class DistilledEncoder(nn.Module):
    """``distill-neucodec``'s: DistilHuBERT and a small convolutional transformer."""

    def __init__(self, shape: SmallShape) -> None:
        super().__init__()
        width = shape.semantic.hidden
        self.semantic_model = Hubert(shape.semantic)
        self.SemanticEncoder_module = SemanticEncoder(width, width, shape.semantic_channels)
        self.codec_encoder = DistilledAcoustic(shape.acoustic)
        self.fc_sq_prior = nn.Linear(shape.acoustic.hidden, shape.joined)
        self.fc_prior = nn.Linear(shape.joined + width, shape.quantizer)
        self.generator = Projection(shape.quantizer)

    def forward(self, samples: Tensor) -> Tensor:
        """[n] at 16 kHz, n a multiple of 320, to [T, 8]; T = n / 320."""
        padded = nn.functional.pad(samples, (SIDE, SIDE))
        hidden = self.semantic_model(padded[None])
        semantic = self.SemanticEncoder_module(hidden.transpose(1, 2))
        acoustic = self.fc_sq_prior(self.codec_encoder(samples[None, None])).transpose(1, 2)
        return joined(semantic, acoustic, self.fc_prior, self.generator)


def joined(semantic: Tensor, acoustic: Tensor, prior: nn.Module, project: nn.Module) -> Tensor:
    """Both halves [1, channels, T], as far as the shorter goes, to [T, 8]."""
    count = min(semantic.shape[-1], acoustic.shape[-1])
    both = torch.cat([semantic[..., :count], acoustic[..., :count]], 1)
    out: Tensor = project(prior(both.transpose(1, 2)))[0]
    return out


def encoded(module: nn.Module, samples: Samples, device: torch.device) -> Codes:
    """Prepared samples (n,) to codes (T,)."""
    with torch.inference_mode():
        vectors = module(torch.from_numpy(samples.astype(np.float32)).to(device))
    return nearest_codes(vectors.float().cpu().numpy())
