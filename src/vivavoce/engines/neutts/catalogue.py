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
    """One repository of a backbone; ``language`` (ISO 639-1) is the one that it speaks."""

    repo: str
    family: Family
    language: str
    kind: Kind
    licence: str


def _published() -> tuple[PublishedBackbone, ...]:
    named = [
        ("neutts-air", AIR, "en", APACHE),
        ("neutts-nano", NANO, "en", NEUTTS_OPEN),
        ("neutts-nano-german", NANO, "de", NEUTTS_OPEN),
        ("neutts-nano-french", NANO, "fr", NEUTTS_OPEN),
        ("neutts-nano-spanish", NANO, "es", NEUTTS_OPEN),
        ("neutts-2e", TWO_E, "en", NEUTTS_OPEN),
    ]
    kinds: tuple[tuple[str, Kind], ...] = (
        ("", "torch"),
        ("-q4-gguf", "gguf"),
        ("-q8-gguf", "gguf"),
    )
    return tuple(
        PublishedBackbone(f"{OWNER}/{name}{suffix}", family, language, kind, licence)
        for name, family, language, licence in named
        for suffix, kind in kinds
    )


BACKBONES = _published()

_WORDS = {"german": "de", "french": "fr", "spanish": "es"}


def published_backbone(repo: str) -> PublishedBackbone | None:
    """The published repository of that name; None for any other."""
    return next((each for each in BACKBONES if each.repo.lower() == repo.lower()), None)


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
