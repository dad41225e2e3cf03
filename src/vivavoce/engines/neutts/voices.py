"""What a voice is: reference codes and what they say; as bytes for the voice library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from vivavoce.engines.neutts.backbone import Codes
from vivavoce.engines.neutts.family import Family
from vivavoce.engines.neutts.reference_files import (
    FoundReference,
    checked_codes,
    references_in,
)
from vivavoce.errors import InputError, ModelFileError, SettingsError
from vivavoce.types import Voice

ENGINE = "neutts"
NOBODY = "nobody"
FORMAT = "vivavoce-neutts-voice-1"
MAX_VOICE_BYTES = 4 * 1024 * 1024

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "alloy": "emily", "ash": "paul", "ballad": "steven", "cedar": "paul", "coral": "sophie",
        "echo": "steven", "fable": "paul", "marin": "sophie", "nova": "emily", "onyx": "steven",
        "sage": "emily", "shimmer": "sophie", "verse": "steven",
    }
)  # fmt: skip
"""OpenAI's voice names and the 2E speaker each stands for, where that voice is there."""


@dataclass(frozen=True, slots=True)
class ReferenceVoice:
    """What is kept of a recording: codes (T,) int32 at 50 a second, and what was said.

    ``language`` (ISO 639-1) is empty where it is the model's own. Without codes the model
    chooses who speaks.
    """

    codes: Codes
    transcript: str
    language: str = ""

    def digest(self) -> str:
        """A short name for what this voice sounds like."""
        return hashlib.sha256(self.codes.tobytes() + self.transcript.encode()).hexdigest()[:12]

    def to_bytes(self) -> bytes:
        """As JSON."""
        told = {
            "format": FORMAT,
            "transcript": self.transcript,
            "language": self.language,
            "codes": self.codes.tolist(),
        }
        return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ReferenceVoice:
        """The inverse of ``to_bytes``. Raises ModelFileError for damaged data."""
        if len(data) > MAX_VOICE_BYTES:
            raise ModelFileError("The saved voice is damaged: it is far too large.")
        try:
            told = json.loads(data)
            if told["format"] != FORMAT:
                raise ModelFileError(f"This is no voice of engine neutts: {told['format']!r}.")
            transcript, language = str(told["transcript"]), str(told["language"])
            codes = checked_codes(told["codes"], "The saved voice")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ModelFileError("The saved voice is damaged.") from error
        if not transcript.strip():
            raise ModelFileError("The saved voice is damaged: it has no transcript.")
        return cls(codes, transcript, language)


def reference_of(voice: Voice) -> ReferenceVoice:
    """A voice's state. Raises InputError for a voice of another engine."""
    if not isinstance(voice.data, ReferenceVoice):
        raise InputError(f"The voice {voice.id!r} was not made for NeuTTS.", param="voice")
    return voice.data


def builtin_voices(family: Family, folder: Path | None, language: str) -> tuple[Voice, ...]:
    """The voices of ``folder``; where there are none, "nobody", whom the model invents.

    Of a model with fixed speakers only those are listed, as it knows no others.
    Raises ModelFileError.
    """
    found = [] if folder is None else [_listed(each, language) for each in references_in(folder)]
    if family.speakers:
        found = [voice for voice in found if voice.id in family.speakers]
        found.sort(key=lambda voice: family.speakers.index(voice.id))
    return tuple(found) or (_nobody(language),)


def default_first(voices: tuple[Voice, ...], default: str) -> tuple[Voice, ...]:
    """The voices with ``default`` (empty: as they are) before the others.

    Raises SettingsError where it is none of them.
    """
    name = aliases_for(voices).get(default, default)
    if not name:
        return voices
    if name not in {voice.id for voice in voices}:
        listed = ", ".join(voice.id for voice in voices)
        raise SettingsError(f"There is no voice {default!r}; there are: {listed}.", param="voice")
    return tuple(sorted(voices, key=lambda voice: voice.id != name))


def aliases_for(voices: Iterable[Voice]) -> Mapping[str, str]:
    """OpenAI's names for those of the speakers that are there; the first voice for the others."""
    ids = [voice.id for voice in voices]
    first = ids[0] if ids else ""
    return MappingProxyType(
        {alias: name if name in ids else first for alias, name in ALIASES.items()}
    )


def cloned_voice(state: ReferenceVoice, language: str) -> Voice:
    """A voice that was cloned, under a name that follows from its sound."""
    name = f"clone-{state.digest()}"
    spoken = state.language or language
    return Voice(name, ENGINE, name, (spoken,), kind="cloned", data=state)


def _listed(found: FoundReference, language: str) -> Voice:
    state = ReferenceVoice(found.codes, found.transcript, found.language or language)
    return Voice(
        found.name,
        ENGINE,
        found.name.replace("_", " ").title(),
        (state.language,),
        data=state,
    )


def _nobody(language: str) -> Voice:
    described = "No voice in particular: the model invents one for each clause. Clone a voice."
    state = ReferenceVoice(np.zeros(0, np.int32), "", language)
    return Voice(NOBODY, ENGINE, "Nobody", (language,), description=described, data=state)
