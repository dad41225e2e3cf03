"""``vivavoce voices export``: copies of saved voices, for ``voices import`` on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vivavoce.cli.options import ConfigOption, EngineOption, ModelOption, SetOption, settings_from
from vivavoce.cli.saved_voices import open_library
from vivavoce.errors import InputError


def voices_export(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Saved voices; none: all.")
    ] = None,
    to: Annotated[Path, typer.Option("--to", help="The folder to write them into.")] = Path(),
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of a voice of that name in the folder.")
    ] = False,
    engine: EngineOption = None,
    model: ModelOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Write saved voices into a folder: NAME.json and NAME.voice, of this engine alone."""
    from vivavoce.speech.voice_folder import export_voice

    library = open_library(settings_from(config, sets, engine=engine, model_id=model))
    wanted = names or [voice.id for voice in library.saved()]
    if not wanted:
        raise InputError("No voice is saved for this engine.", param="name")
    entries = {name: library.entry(name) for name in wanted}  # all are there, or none is written
    for name, blob in entries.items():
        export_voice(name, blob, to, replacing=replace)
        print(name)
