"""``vivavoce voices add``: a voice of a recording, kept under a name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
from vivavoce.errors import InputError


def voices_add(
    name: Annotated[str, typer.Argument(help="What the voice is called from now on.")],
    file: Annotated[Path, typer.Argument(help="The recording: WAV, MP3, FLAC, Ogg, M4A, …")],
    text: Annotated[
        str | None,
        typer.Option("--text", help="What it says. Without it, what FILE's .txt says."),
    ] = None,
    description: DescriptionOption = "",
    consent: ConsentOption = "",
    replace: ReplaceOption = False,
    engine: EngineOption = None,
    model: ModelOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Make a voice of a recording and keep it; a server that runs on the same folder has it, too.

    The engine is loaded for it, beside that of a server.
    """
    from vivavoce.cli.speaking import open_synthesizer
    from vivavoce.speech.voice_folder import transcript_beside
    from vivavoce.text import is_speakable

    settings = settings_from(config, sets, engine=engine, model_id=model)
    check_consent(settings, consent)
    if not file.is_file():
        raise InputError(f"{file} is no file.", param="file")
    said = transcript_beside(file) if text is None else text
    if said is not None and not is_speakable(said):
        raise InputError("--text is empty; leave it out if it is not known.", param="text")
    # Before a model is loaded for nothing.
    name = open_library(settings).check_new(name, description, consent, replacing=replace)
    with open_synthesizer(settings, mention_recordings=False) as synthesizer:
        check_cloning(synthesizer)
        voice = synthesizer.run(
            synthesizer.service.save_voice(
                name, recording_of(file, said), description, consent, replacing=replace
            )
        )
    print(voice.id)
