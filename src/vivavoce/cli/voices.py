"""``vivavoce voices``: who can speak, and what is done with the voices that are saved."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivavoce.cli.options import EngineOptions, JsonOption, grouped
from vivavoce.errors import (
    Conflict,
    ConsentRequired,
    EngineError,
    InputError,
    ModelFileError,
    StorageError,
    Unsupported,
)

if TYPE_CHECKING:
    from vivavoce.settings import Settings
    from vivavoce.speech.synthesizer import Synthesizer
    from vivavoce.speech.voice_folder import FoundRecording
    from vivavoce.speech.voices import VoiceLibrary
    from vivavoce.types import Recording


@dataclass(frozen=True, slots=True)
class KeepOptions:
    """How a new voice is kept."""

    description: Annotated[str, typer.Option("--description", help="Kept with the voice.")] = ""
    consent: Annotated[
        str, typer.Option("--consent", help="How the speaker agreed; kept with the voice.")
    ] = ""
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of a saved voice of that name.")
    ] = False


@grouped
def voices(engine: EngineOptions, as_json: JsonOption = False) -> None:
    """List the voices: built in, saved, and other servers' names for them."""
    rows = _rows(engine.settings())
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)


@grouped
def voices_add(
    name: Annotated[str, typer.Argument(help="What the voice is called from now on.")],
    file: Annotated[Path, typer.Argument(help="The recording: WAV, MP3, FLAC, Ogg, M4A, …")],
    text: Annotated[
        str | None,
        typer.Option("--text", help="What it says. Without it, what FILE's .txt says."),
    ] = None,
    *,
    keep: KeepOptions,
    engine: EngineOptions,
) -> None:
    """Make a voice of a recording and keep it; a server that runs on the same folder has it, too.

    The engine is loaded for it, beside that of a server.
    """
    from vivavoce.cli.speaking import open_synthesizer
    from vivavoce.speech.voice_folder import transcript_beside
    from vivavoce.text import is_speakable

    settings = engine.settings()
    _check_consent(settings, keep.consent)
    if not file.is_file():
        raise InputError(f"{file} is no file.", param="file")
    said = transcript_beside(file) if text is None else text
    if said is not None and not is_speakable(said):
        raise InputError("--text is empty; leave it out if it is not known.", param="text")
    # Before a model is loaded for nothing.
    library = _open_library(settings)
    name = library.check_new(name, keep.description, keep.consent, replacing=keep.replace)
    with open_synthesizer(settings, mention_recordings=False) as synthesizer:
        _check_cloning(synthesizer)
        voice = synthesizer.run(
            synthesizer.service.save_voice(
                name,
                _recording_of(file, said),
                keep.description,
                keep.consent,
                replacing=keep.replace,
            )
        )
    print(voice.id)


@grouped
def voices_import(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Holds NAME.wav (or .mp3, .flac, …) with NAME.txt beside it, or what "
            "`vivavoce voices export` wrote."
        ),
    ],
    keep: KeepOptions,
    engine: EngineOptions,
) -> None:
    """Make a voice of each recording in a folder, and keep it under the file's name.

    Names that are saved already are passed over. A server that runs on the same folder of voices
    has them, too. Exported voices keep their own description and consent.
    """
    from vivavoce.speech.voice_folder import exported_in, recordings_in

    settings = engine.settings()
    recordings, exported = recordings_in(folder), exported_in(folder)
    if not recordings and not exported:
        raise InputError(f"{folder} holds neither recordings nor exported voices.", param="folder")
    library = _open_library(settings)
    saved = set() if keep.replace else {voice.id for voice in library.saved()}
    for name in sorted(({each.name for each in recordings} | set(exported)) & saved):
        print(f"{name}: is saved already", file=sys.stderr)
    for name in sorted({each.name for each in recordings} & set(exported) - saved):
        print(f"{name}: the exported voice is taken, not the recording", file=sys.stderr)
    adopted = {name: exported[name] for name in exported if name not in saved}
    adopt = partial(library.adopt, replacing=keep.replace)
    failed = _each({name: partial(adopt, name, blob) for name, blob in adopted.items()})
    new = [each for each in recordings if each.name not in {*saved, *exported}]
    if new:
        _check_consent(settings, keep.consent)
        failed += _save(settings, new, keep)
    if failed:
        raise InputError(f"Not imported: {', '.join(failed)}.")


@grouped
def voices_remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Saved voices.")],
    engine: EngineOptions,
) -> None:
    """Remove saved voices; a server that runs on the same folder has them no more, either."""
    library = _open_library(engine.settings())
    for name in names:
        library.delete(name)


@grouped
def voices_export(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Saved voices; none: all.")
    ] = None,
    to: Annotated[Path, typer.Option("--to", help="The folder to write them into.")] = Path(),
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of a voice of that name in the folder.")
    ] = False,
    *,
    engine: EngineOptions,
) -> None:
    """Write saved voices into a folder: NAME.json and NAME.voice, of this engine alone."""
    from vivavoce.speech.voice_folder import export_voice

    library = _open_library(engine.settings())
    wanted = names or [voice.id for voice in library.saved()]
    if not wanted:
        raise InputError("No voice is saved for this engine.", param="name")
    entries = {name: library.entry(name) for name in wanted}  # all are there, or none is written
    for name, blob in entries.items():
        export_voice(name, blob, to, replacing=replace)
        print(name)


def _rows(settings: Settings) -> list[dict[str, Any]]:
    from vivavoce.engines.registry import create_engine
    from vivavoce.speech.voice_folder import recordings_folders, warn_of_recordings
    from vivavoce.speech.voices import VoiceLibrary

    engine = create_engine(settings.engine, settings.engine_options, settings.shared_options)
    engine.load()
    try:
        library = VoiceLibrary(engine, settings.data_dir / "voices")
        warn_of_recordings(
            library, engine.info, recordings_folders(settings.data_dir, settings.engine_options)
        )
        default = library.resolve(None).id
        aliases = library.aliases()
        return [
            {
                "voice": voice.id,
                "kind": "built in" if voice.kind == "builtin" else "saved",
                "default": voice.id == default,
                "languages": list(voice.languages),
                "aliases": sorted(name for name, id_ in aliases.items() if id_ == voice.id),
                "description": voice.description,
                "consent": voice.consent,
            }
            for voice in (*library.builtin(), *library.saved())
        ]
    finally:
        engine.unload()


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("Voice", "Kind", "Languages", "Also called", box=None, pad_edge=False)
    for row in rows:
        name = row["voice"] + (" (default)" if row["default"] else "")
        languages, aliases = ", ".join(row["languages"]), ", ".join(row["aliases"])
        table.add_row(name, row["kind"], languages or "any", aliases)
    Console().print(table)


def _save(settings: Settings, recordings: Iterable[FoundRecording], keep: KeepOptions) -> list[str]:
    """Make voices of recordings with one loaded engine. The names of those that failed."""
    from vivavoce.cli.speaking import open_synthesizer
    from vivavoce.speech.voice_folder import transcript_beside

    with open_synthesizer(settings, mention_recordings=False) as synthesizer:
        _check_cloning(synthesizer)

        def save(found: FoundRecording) -> None:
            recording = _recording_of(found.file, transcript_beside(found.file))
            service = synthesizer.service
            synthesizer.run(
                service.save_voice(
                    found.name, recording, keep.description, keep.consent, replacing=keep.replace
                )
            )

        return _each({found.name: partial(save, found) for found in recordings})


def _each(work: Mapping[str, Callable[[], None]]) -> list[str]:
    """Do each piece of work, print its name, or why it failed; the names of those that did."""
    failed = []
    for name, do in work.items():
        try:
            do()
        except (InputError, Conflict, EngineError, ModelFileError, StorageError) as error:
            print(f"{name}: {error.message}", file=sys.stderr)
            failed.append(name)
        else:
            print(name)
    return failed


def _open_library(settings: Settings) -> VoiceLibrary:
    """The saved voices of the engine, without loading it. Raises SetupError."""
    from vivavoce.engines.registry import create_engine
    from vivavoce.speech.voices import VoiceLibrary

    engine = create_engine(settings.engine, settings.engine_options, settings.shared_options)
    folder = settings.data_dir / "voices"
    return VoiceLibrary(engine, folder, max_saved=settings.max_saved_voices)


def _check_consent(settings: Settings, consent: str) -> None:
    """Raise ConsentRequired where the settings ask for a consent and none is given."""
    if settings.require_consent and not consent.strip():
        raise ConsentRequired(
            "require_consent is set: --consent says how the speaker agreed.", param="consent"
        )


def _check_cloning(synthesizer: Synthesizer) -> None:
    """Raise Unsupported where the loaded model cannot clone."""
    info = synthesizer.info
    if not info.capabilities.cloning:
        raise Unsupported(
            f"The model {info.model} of the engine {info.name!r} cannot clone voices.",
            param="voice",
        )


def _recording_of(file: Path, transcript: str | None) -> Recording:
    """A file as what somebody sends. Raises nothing: reading it does."""
    from vivavoce.types import Recording

    return Recording(partial(_read, file), transcript, str(file))


async def _read(file: Path) -> bytes:
    from vivavoce.audio.decode import read_recording_file

    return read_recording_file(file)
