"""What the commands that save, move and remove voices have in common."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from vivavoce.errors import ConsentRequired, Unsupported

if TYPE_CHECKING:
    from vivavoce.settings import Settings
    from vivavoce.speech.synthesizer import Synthesizer
    from vivavoce.speech.voices import VoiceLibrary
    from vivavoce.types import Recording

ConsentOption: TypeAlias = Annotated[
    str, typer.Option("--consent", help="How the speaker agreed; kept with the voice.")
]
DescriptionOption: TypeAlias = Annotated[
    str, typer.Option("--description", help="Kept with the voice.")
]
ReplaceOption: TypeAlias = Annotated[
    bool, typer.Option("--replace", help="In place of a saved voice of that name.")
]


def open_library(settings: Settings) -> VoiceLibrary:
    """The saved voices of the engine, without loading it. Raises SetupError."""
    from vivavoce.engines.registry import create_engine
    from vivavoce.speech.voices import VoiceLibrary

    engine = create_engine(settings.engine, settings.engine_options, settings.shared_options)
    folder = settings.data_dir / "voices"
    return VoiceLibrary(engine, folder, max_saved=settings.max_saved_voices)


def check_consent(settings: Settings, consent: str) -> None:
    """Raise ConsentRequired where the settings ask for a consent and none is given."""
    if settings.require_consent and not consent.strip():
        raise ConsentRequired(
            "require_consent is set: --consent says how the speaker agreed.", param="consent"
        )


def check_cloning(synthesizer: Synthesizer) -> None:
    """Raise Unsupported where the loaded model cannot clone."""
    info = synthesizer.info
    if not info.capabilities.cloning:
        raise Unsupported(
            f"The model {info.model} of the engine {info.name!r} cannot clone voices.",
            param="voice",
        )


def recording_of(file: Path, transcript: str | None) -> Recording:
    """A file as what somebody sends. Raises nothing: reading it does."""
    from vivavoce.types import Recording

    return Recording(partial(_read, file), transcript, str(file))


async def _read(file: Path) -> bytes:
    from vivavoce.audio.decode import read_recording_file

    return read_recording_file(file)
