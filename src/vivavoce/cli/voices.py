"""``vivavoce voices``: who can speak."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vivavoce.cli.options import (
    ConfigOption,
    EngineOption,
    JsonOption,
    ModelOption,
    SetOption,
    settings_from,
)

if TYPE_CHECKING:
    from vivavoce.settings import Settings


def voices(
    engine: EngineOption = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """List the voices: built in, saved, and other servers' names for them."""
    rows = _rows(settings_from(config, sets, engine=engine, model_id=model))
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)


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
