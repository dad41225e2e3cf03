"""Fetching a published voice by name over HTTPS, checked and put in place whole."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from vivavoce.engines.piper.voice_files import VoiceFiles, voice_at
from vivavoce.errors import ModelFileError, SettingsError

log = logging.getLogger(__name__)

NAME = re.compile(r"(?P<family>[a-z]{2,3})_(?P<region>[A-Z]{2,3})-(?P<voice>\w+)-(?P<quality>\w+)")
TIMEOUT_S = 60.0


def download_voice(name: str, folder: Path, base_url: str) -> VoiceFiles:
    """Fetch NAME.onnx and NAME.onnx.json into ``folder``.

    ``base_url`` holds voices.json (sizes and MD5 sums, as the collection publishes them) and the
    files at family/code/voice/quality/. The model arrives last, so that a voice whose model is
    there is whole. Raises SettingsError for a name of another form, ModelFileError where the
    voice cannot be fetched or arrives damaged.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise SettingsError(
            f"{name!r} is not a voice name like 'en_US-lessac-medium'.", param="voice"
        )
    code = f"{match['family']}_{match['region']}"
    path = f"{match['family']}/{code}/{match['voice']}/{match['quality']}/{name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with httpx.Client(timeout=TIMEOUT_S, follow_redirects=True) as client:
            sums = _known_sums(client, base_url, name)
            for suffix in (".onnx.json", ".onnx"):
                _fetch(client, f"{base_url}/{path}{suffix}", folder / f"{name}{suffix}", sums)
    except httpx.HTTPError as error:
        raise ModelFileError(
            f"The voice {name!r} cannot be downloaded from {base_url}: {error or repr(error)}"
        ) from error
    except OSError as error:
        raise ModelFileError(f"The voice {name!r} cannot be kept in {folder}: {error}") from error
    return voice_at(folder / f"{name}.onnx")


def _known_sums(client: httpx.Client, base_url: str, name: str) -> Mapping[str, str]:
    """MD5 sums by file name. Raises ModelFileError for a voice that is not in the collection."""
    response = client.get(f"{base_url}/voices.json")
    if response.status_code == httpx.codes.NOT_FOUND:
        log.warning("%s has no voices.json: the voice cannot be checked.", base_url)
        return {}
    response.raise_for_status()
    try:
        voices: Mapping[str, Any] = response.json()
        files = voices[name]["files"] if name in voices else None
        if files is None:
            raise ModelFileError(f"There is no published voice {name!r} at {base_url}.")
        return {Path(path).name: str(facts["md5_digest"]) for path, facts in files.items()}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{base_url}/voices.json is damaged: {error!r}") from error


def _fetch(client: httpx.Client, url: str, target: Path, sums: Mapping[str, str]) -> None:
    """One file, through a temporary one. Raises httpx.HTTPError, OSError, ModelFileError."""
    digest = hashlib.md5(usedforsecurity=False)
    log.info("Downloading %s", url)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as temporary:
        part = Path(temporary) / target.name
        with client.stream("GET", url) as response, part.open("wb") as file:
            response.raise_for_status()
            for block in response.iter_bytes():
                digest.update(block)
                file.write(block)
        expected = sums.get(target.name)
        if expected is not None and digest.hexdigest() != expected:
            raise ModelFileError(
                f"{url} arrived damaged: its MD5 is {digest.hexdigest()}, expected {expected}."
            )
        part.rename(target)
