"""The published Qwen3-TTS models: names, where they are, what is known of their files.

Revisions are pinned, so that a download is the same tomorrow. SHA-256 sums are here where they are
published in full; of others the Hub tells the sum when a file is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vivavoce.engines.qwen3.config import ModelKind
from vivavoce.errors import UnknownModel

OWNER = "Qwen"
WEIGHTS = "model.safetensors"
CODEC_WEIGHTS = "speech_tokenizer/model.safetensors"
CODEC_SHA256 = "836b7b357f5ea43e889936a3709af68dfe3751881acefe4ecf0dbd30ba571258"
CODEC_BYTES = 682_293_092
SMALL_SUMS: Mapping[str, str] = MappingProxyType(
    {
        "generation_config.json": (
            "f1b90b4513f3b34c62851049e2492d7b4c5940daf1276f89c82b8ef04127f3aa"
        ),
        "merges.txt": "599bab54075088774b1733fde865d5bd747cbcc7a547c5bc12610e874e26f5e3",
        "tokenizer_config.json": "dc3c31c3bdaedd5016382bb3cbe07323026775ad51f5a4fb564505992ae4a670",
        "vocab.json": "ca10d7e9fb3ed18575dd1e277a2579c16d108e32f27439684afa0e10b1440910",
        "preprocessor_config.json": (
            "efdde1022ea9d76928bf7a9cd53139138f5ba2e466e837f08f6105ab1af1c119"
        ),
        "speech_tokenizer/config.json": (
            "ee65bb901c876664ab8707c487157aa1a6ee57c65969b28fb5ec9dc211e68167"
        ),
        "speech_tokenizer/configuration.json": (
            "6bc26d64eb5024b4d1dab5a52371958b429256d6c9d59787f1f5294a54e0cebd"
        ),
        "speech_tokenizer/preprocessor_config.json": (
            "fcb3805e597e786d4067706e602f6688524640f8d3396790e2e09b5942fcbdfb"
        ),
    }
)
"""Files as the checkpoints have them. To compare with, not to refuse by: that they are the same in
all five was not seen."""


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """One model. ``weights_bytes`` is about the size of model.safetensors, without the codec;
    ``weights_sha256`` its sum. Of config.json's sum the beginning and the end are known."""

    name: str
    revision: str
    kind: ModelKind
    size: str
    weights_bytes: int
    weights_sha256: str = ""
    config_sum: tuple[str, str] = ("", "")
    licence: str = "Apache-2.0"

    @property
    def sha256(self) -> Mapping[str, str]:
        """The sums of the large files, where they are known."""
        own = {WEIGHTS: self.weights_sha256} if self.weights_sha256 else {}
        return {CODEC_WEIGHTS: CODEC_SHA256} | own

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
        1_829_344_272,
        "180b3b10eb1c9f1b4db7806d5475bae3071c0243c299d49926bab1da3b6946f6",
        ("2e714c78", "ba011"),
    ),
    PublishedModel(
        "Qwen3-TTS-12Hz-0.6B-CustomVoice",
        "85e237c12c027371202489a0ec509ded67b5e4b5",
        "custom_voice",
        "0.6B",
        1_811_626_576,
        config_sum=("81aca2b6", "7455"),
    ),
    PublishedModel(
        "Qwen3-TTS-12Hz-1.7B-Base",
        "fd4b254389122332181a7c3db7f27e918eec64e3",
        "base",
        "1.7B",
        3_857_413_744,
        "38fc7fc51c5e776e840414b6fd443962e9411b9654888fd7913e4da643cb857c",
        ("b4f01752", "cc1f9"),
    ),
    PublishedModel(
        "Qwen3-TTS-12Hz-1.7B-CustomVoice",
        "0c0e3051f131929182e2c023b9537f8b1c68adfe",
        "custom_voice",
        "1.7B",
        3_833_400_000,
        config_sum=("17a07f52", "9cf9"),
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
