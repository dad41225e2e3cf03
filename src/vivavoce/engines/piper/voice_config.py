"""What a voice's JSON file says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vivavoce.errors import ModelFileError

PHONEME_TYPES = ("espeak", "text")


@dataclass(frozen=True, slots=True)
class VoiceConfig:
    """The part of a Piper voice's configuration that synthesis needs.

    ``language`` is a BCP 47 tag. ``speakers`` maps names to numbers, empty with one speaker.
    ``vowel_clusters`` are phoneme sequences that count as one symbol.
    """

    sample_rate_hz: int
    phoneme_type: str
    espeak_voice: str
    language: str
    phoneme_ids: Mapping[str, tuple[int, ...]]
    speakers: Mapping[str, int]
    default_speaker: int | None
    noise_scale: float
    length_scale: float
    noise_w_scale: float
    vowel_clusters: frozenset[tuple[str, ...]]

    def require_known_phonemes(self, path: Path) -> None:
        """Raises ModelFileError for a voice whose phonemes this engine cannot make."""
        if self.phoneme_type not in PHONEME_TYPES:
            raise ModelFileError(
                f"The voice {path} uses phonemes of type {self.phoneme_type!r}; "
                f"this engine can make: {', '.join(PHONEME_TYPES)}."
            )


def read_config(path: Path) -> VoiceConfig:
    """Read NAME.onnx.json. Raises ModelFileError where it is missing or not such a file."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return _parse(raw)
    except OSError as error:
        raise ModelFileError(f"The voice configuration {path} cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path} is not a Piper voice configuration: {error!r}") from error


def _parse(raw: Mapping[str, Any]) -> VoiceConfig:
    inference = raw.get("inference", {})
    espeak_voice = str(raw.get("espeak", {}).get("voice", ""))
    language = str(raw.get("language", {}).get("code", "") or espeak_voice)
    many = int(raw["num_speakers"]) > 1
    count = int(raw["num_speakers"])
    named = raw.get("speaker_id_map") or {str(number): number for number in range(count)}
    return VoiceConfig(
        sample_rate_hz=int(raw["audio"]["sample_rate"]),
        phoneme_type=str(raw.get("phoneme_type", "espeak")),
        espeak_voice=espeak_voice,
        language=language.replace("_", "-"),
        phoneme_ids={key: tuple(ids) for key, ids in raw["phoneme_id_map"].items()},
        speakers={str(name): int(number) for name, number in named.items()} if many else {},
        default_speaker=int(raw.get("default_speaker_id", 0)) if many else None,
        noise_scale=float(inference.get("noise_scale", 0.667)),
        length_scale=float(inference.get("length_scale", 1.0)),
        noise_w_scale=float(inference.get("noise_w", 0.8)),
        vowel_clusters=frozenset(tuple(each) for each in raw.get("vowel_clusters") or ()),
    )
