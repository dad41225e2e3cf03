"""The published Qwen3-TTS models: names, where they are, what is known of their files.

Revisions are pinned, so that a download is the same tomorrow. SHA-256 sums are here only where
the whole sum is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from vivavoce.engines.qwen3.config import ModelKind
from vivavoce.errors import UnknownModel

OWNER = "Qwen"
CODEC_WEIGHTS = "speech_tokenizer/model.safetensors"
CODEC_SHA256 = "836b7b357f5ea43e889936a3709af68dfe3751881acefe4ecf0dbd30ba571258"
CODEC_BYTES = 682_293_092
SUMS: Mapping[str, str] = MappingProxyType({CODEC_WEIGHTS: CODEC_SHA256})


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """One model. ``weights_bytes`` is about the size of model.safetensors, without the codec."""

    name: str
    revision: str
    kind: ModelKind
    size: str
    weights_bytes: int
    sha256: Mapping[str, str] = field(default_factory=lambda: SUMS)
    licence: str = "Apache-2.0"

    @property
    def repo(self) -> str:
        """Its repository on the Hugging Face Hub."""
        return f"{OWNER}/{self.name}"

    @property
    def download_bytes(self) -> int:
        """About what a whole download takes, the codec included."""
        return self.weights_bytes + CODEC_BYTES + 5_000_000


MODELS = (
    PublishedModel(
        "Qwen3-TTS-12Hz-0.6B-Base",
        "5d83992436eae1d760afd27aff78a71d676296fc",
        "base",
        "0.6B",
        1_829_330_000,
    ),
    PublishedModel(
        "Qwen3-TTS-12Hz-0.6B-CustomVoice",
        "85e237c12c027371202489a0ec509ded67b5e4b5",
        "custom_voice",
        "0.6B",
        1_811_626_576,
    ),
    PublishedModel(
        "Qwen3-TTS-12Hz-1.7B-Base",
        "fd4b254389122332181a7c3db7f27e918eec64e3",
        "base",
        "1.7B",
        3_857_410_000,
    ),
    PublishedModel(
        "Qwen3-TTS-12Hz-1.7B-CustomVoice",
        "0c0e3051f131929182e2c023b9537f8b1c68adfe",
        "custom_voice",
        "1.7B",
        3_833_400_000,
    ),
    PublishedModel(
        "Qwen3-TTS-12Hz-1.7B-VoiceDesign",
        "5ecdb67327fd37bb2e042aab12ff7391903235d3",
        "voice_design",
        "1.7B",
        3_833_400_000,
    ),
)


def published(name: str) -> PublishedModel:
    """The model of that name, with or without its owner. Raises UnknownModel."""
    for model in MODELS:
        if name.lower() in (model.name.lower(), model.repo.lower()):
            return model
    raise UnknownModel(name, [model.name for model in MODELS])
