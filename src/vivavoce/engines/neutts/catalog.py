"""The published NeuTTS models: repositories, what they speak, and under which licence.

All repositories are gated: their files need an account that accepted the licence, and its token.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from vivavoce.engines.neutts.family import AIR, NANO, TWO_E, Family

OWNER = "neuphonic"
APACHE = "Apache-2.0"
NEUTTS_OPEN = "NeuTTS Open License 1.0"

Kind: TypeAlias = Literal["torch", "gguf"]


@dataclass(frozen=True, slots=True)
class PublishedBackbone:
    """One repository of a backbone; ``language`` (ISO 639-1) is the one that it speaks.

    ``weights_bytes`` is the size of its weights, 0 where that is not known.
    """

    repo: str
    family: Family
    language: str
    kind: Kind
    licence: str
    weights_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PublishedCodec:
    """One repository of NeuCodec; ``encodes``: with the encoder that clones voices."""

    repo: str
    weights_bytes: int
    encodes: bool
    licence: str = APACHE


AIR_BYTES = {"torch": 1_495_893_752, "-q4-gguf": 527_054_304, "-q8-gguf": 802_658_528}
NANO_BYTES = {"torch": 914_843_656, "-q4-gguf": 194_600_640, "-q8-gguf": 252_744_384}


def _published() -> tuple[PublishedBackbone, ...]:
    named = [
        ("neutts-air", AIR, "en", APACHE, AIR_BYTES),
        ("neutts-nano", NANO, "en", NEUTTS_OPEN, NANO_BYTES),
        ("neutts-nano-german", NANO, "de", NEUTTS_OPEN, NANO_BYTES),
        ("neutts-nano-french", NANO, "fr", NEUTTS_OPEN, NANO_BYTES),
        ("neutts-nano-spanish", NANO, "es", NEUTTS_OPEN, NANO_BYTES),
        ("neutts-2e", TWO_E, "en", NEUTTS_OPEN, {}),
    ]
    kinds: tuple[tuple[str, Kind], ...] = (
        ("", "torch"),
        ("-q4-gguf", "gguf"),
        ("-q8-gguf", "gguf"),
    )
    return tuple(
        PublishedBackbone(
            f"{OWNER}/{name}{suffix}", family, language, kind, licence, sizes.get(suffix or kind, 0)
        )
        for name, family, language, licence, sizes in named
        for suffix, kind in kinds
    )


BACKBONES = _published()
CODECS = (
    PublishedCodec(f"{OWNER}/neucodec", 2_519_855_456, encodes=True),
    PublishedCodec(f"{OWNER}/distill-neucodec", 0, encodes=True),
    PublishedCodec(f"{OWNER}/neucodec-onnx-decoder", 782_565_930, encodes=False),
    PublishedCodec(f"{OWNER}/neucodec-onnx-decoder-int8", 312_292_102, encodes=False),
)
REPOS = (*(each.repo for each in BACKBONES), *(each.repo for each in CODECS))

_WORDS = {"german": "de", "french": "fr", "spanish": "es"}


def published_backbone(repo: str) -> PublishedBackbone | None:
    """The published repository of that name, at whatever ``@COMMIT``; None for any other."""
    plain = repo.partition("@")[0].lower()
    return next((each for each in BACKBONES if each.repo.lower() == plain), None)


def published_codec(repo: str) -> PublishedCodec | None:
    """The published codec of that name, at whatever ``@COMMIT``; None for any other."""
    plain = repo.partition("@")[0].lower()
    return next((each for each in CODECS if each.repo.lower() == plain), None)


def likely_family(backbone: str) -> Family:
    """What a repository or path probably holds, told by its name until it is read."""
    known = published_backbone(backbone)
    if known is not None:
        return known.family
    name = Path(backbone).name.lower()
    if "2e" in name:
        return TWO_E
    return AIR if "air" in name else NANO


def likely_language(backbone: str) -> str:
    """The language a repository or path speaks, told by its name; English where it says none."""
    known = published_backbone(backbone)
    if known is not None:
        return known.language
    name = Path(backbone).name.lower()
    return next((code for word, code in _WORDS.items() if word in name), "en")
