"""What a voice is: reference codes and what they say; read from files, kept as bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from vivavoce.engines.neutts.backbone import SPEECH_CODES, Codes
from vivavoce.engines.neutts.family import Family
from vivavoce.engines.voices import clone_id
from vivavoce.errors import InputError, ModelFileError
from vivavoce.types import Voice

KINDS = (".npy", ".json", ".pt")


@dataclass(frozen=True, slots=True)
class FoundReference:
    """A voice found in a folder: codes (T,) int32 and what was said."""

    name: str
    codes: Codes
    transcript: str
    language: str = ""


def references_in(folder: Path) -> Iterator[FoundReference]:
    """Every NAME.npy, NAME.json or NAME.pt with its NAME.txt, by name.

    A JSON file may hold ``{"codes": [...], "transcript": "...", "language": "en"}`` and then needs
    no NAME.txt. Raises ModelFileError for a folder or file that cannot be read.
    """
    try:
        files = [path for path in folder.iterdir() if path.suffix in KINDS]
    except OSError as error:
        raise ModelFileError(f"{folder} cannot be read: {error.strerror}.") from error
    best: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: KINDS.index(path.suffix)):
        best.setdefault(path.stem, path)
    for name in sorted(best):
        yield read_reference(best[name])


def read_reference(path: Path) -> FoundReference:
    """One voice. Raises ModelFileError for codes or a transcript that are missing or damaged."""
    try:
        return _json(path) if path.suffix == ".json" else _array(path)
    except OSError as error:
        raise ModelFileError(f"{error.filename} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} holds no reference codes: {error}") from error


def checked_codes(values: Any, where: object) -> Codes:
    """Codes (T,) int32 of any list or array of whole numbers. Raises ModelFileError."""
    codes = np.asarray(values).squeeze()
    whole = codes.ndim == 1 and len(codes) > 0 and np.issubdtype(codes.dtype, np.integer)
    if not whole or codes.min() < 0 or codes.max() >= SPEECH_CODES:
        raise ModelFileError(
            f"{where} holds no reference codes: a list of numbers from 0 to {SPEECH_CODES - 1}."
        )
    return codes.astype(np.int32)


def _array(path: Path) -> FoundReference:
    values = _torch_tensor(path) if path.suffix == ".pt" else np.load(path, allow_pickle=False)
    return FoundReference(path.stem, checked_codes(values, path), _transcript(path))


def _torch_tensor(path: Path) -> Any:
    """A single tensor saved by itself."""
    from vivavoce.runtime.torch_zip import TorchZip

    file = TorchZip.open(path)
    return file.read(next(iter(file.tensors))).astype(np.int64)


def _json(path: Path) -> FoundReference:
    told = json.loads(path.read_text("utf-8"))
    if isinstance(told, list):
        return FoundReference(path.stem, checked_codes(told, path), _transcript(path))
    text = str(told["transcript"]).strip() if "transcript" in told else _transcript(path)
    codes = checked_codes(told["codes"], path)
    return FoundReference(path.stem, codes, text, str(told.get("language", "")))


def _transcript(path: Path) -> str:
    said = path.with_suffix(".txt").read_text("utf-8").strip()
    if not said:
        raise ModelFileError(f"{path.with_suffix('.txt')} is empty: it must hold what was said.")
    return said


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


def cloned_voice(state: ReferenceVoice, language: str) -> Voice:
    """A voice that was cloned, under a name that follows from its sound."""
    name = clone_id(state.digest())
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
