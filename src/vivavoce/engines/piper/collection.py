"""Voices of the public collection by name, put in place whole."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from vivavoce.engines.piper.voice_files import VoiceFiles, voice_at
from vivavoce.errors import SettingsError
from vivavoce.runtime import hub
from vivavoce.runtime.hub_client import failed

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
