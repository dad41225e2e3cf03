"""``vivavoce voices import``: a folder of recordings, or of voices that were exported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivavoce.cli.options import ConfigOption, EngineOption, ModelOption, SetOption, settings_from
from vivavoce.cli.saved_voices import (
    ConsentOption,
    DescriptionOption,
    ReplaceOption,
    check_cloning,
    check_consent,
    open_library,
    recording_of,
)
from vivavoce.errors import Conflict, EngineError, InputError, ModelFileError, StorageError

if TYPE_CHECKING:
    from vivavoce.settings import Settings
    from vivavoce.speech.voice_folder import FoundRecording


def voices_import(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Holds NAME.wav (or .mp3, .flac, …) with NAME.txt beside it, or what "
            "`vivavoce voices export` wrote."
        ),
    ],
    description: DescriptionOption = "",
    consent: ConsentOption = "",
    replace: ReplaceOption = False,
    engine: EngineOption = None,
    model: ModelOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Make a voice of each recording in a folder, and keep it under the file's name.

    Names that are saved already are passed over. A server that runs on the same folder of voices
    has them, too. Exported voices keep their own description and consent.
    """
    from vivavoce.speech.voice_folder import exported_in, recordings_in

    settings = settings_from(config, sets, engine=engine, model_id=model)
    recordings, exported = recordings_in(folder), exported_in(folder)
    if not recordings and not exported:
        raise InputError(f"{folder} holds neither recordings nor exported voices.", param="folder")
    library = open_library(settings)
    saved = set() if replace else {voice.id for voice in library.saved()}
    for name in sorted(({each.name for each in recordings} | set(exported)) & saved):
        print(f"{name}: is saved already", file=sys.stderr)
    for name in sorted({each.name for each in recordings} & set(exported) - saved):
        print(f"{name}: the exported voice is taken, not the recording", file=sys.stderr)
    adopted = {name: exported[name] for name in exported if name not in saved}
    adopt = partial(library.adopt, replacing=replace)
    failed = _each({name: partial(adopt, name, blob) for name, blob in adopted.items()})
    new = [each for each in recordings if each.name not in {*saved, *exported}]
    if new:
        check_consent(settings, consent)
        failed += _save(settings, new, description, consent, replace=replace)
    if failed:
        raise InputError(f"Not imported: {', '.join(failed)}.")


def _save(
    settings: Settings,
    recordings: Iterable[FoundRecording],
    description: str,
    consent: str,
    *,
    replace: bool,
) -> list[str]:
    """Make voices of recordings with one loaded engine. The names of those that failed."""
    from vivavoce.cli.speaking import open_synthesizer
    from vivavoce.speech.voice_folder import transcript_beside

    with open_synthesizer(settings, mention_recordings=False) as synthesizer:
        check_cloning(synthesizer)

        def save(found: FoundRecording) -> None:
            recording = recording_of(found.file, transcript_beside(found.file))
            service = synthesizer.service
            synthesizer.run(
                service.save_voice(found.name, recording, description, consent, replacing=replace)
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
