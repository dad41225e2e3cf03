"""Folders that people keep voices in: recordings with what they say, and voices that were exported.

A recording is ``NAME.wav`` (or another sound file) with ``NAME.txt`` beside it, as servers keep
them that clone at every start. Here it becomes a voice once and is kept as one.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vivavoce.engines.base import EngineInfo
from vivavoce.errors import Conflict, InputError
from vivavoce.speech.folder_index import FolderIndex
from vivavoce.speech.folder_store import FolderStore
from vivavoce.speech.store import Blob, normal_name
from vivavoce.speech.voices import SUFFIX, VoiceLibrary, check_description

log = logging.getLogger(__name__)

ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff", ".webm")
"""Of sound files; of two with one name the first counts."""

MAX_TRANSCRIPT_BYTES = 1 << 20
MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class FoundRecording:
    """A sound file that could be a voice, named as the file without its ending."""

    name: str
    file: Path


def recordings_folders(data_dir: Path, engine_options: Mapping[str, Any]) -> tuple[Path, ...]:
    """Where people may have put recordings: the engine's ``voices_dir``, and the saved voices."""
    own, saved = engine_options.get("voices_dir"), data_dir / "voices"
    return (Path(str(own)).expanduser(), saved) if own else (saved,)


def recordings_in(folder: Path) -> list[FoundRecording]:
    """The sound files of a folder, one a name, by name. Raises InputError."""
    try:
        files = [path for path in folder.iterdir() if path.suffix.lower() in ENDINGS]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}.", param="folder") from error
    files = [path for path in files if path.is_file() and not path.name.startswith(".")]
    best: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: (ENDINGS.index(path.suffix.lower()), path.name)):
        best.setdefault(normal_name(path.stem), path)
    return [FoundRecording(name, best[name]) for name in sorted(best)]


def transcript_beside(file: Path) -> str | None:
    """What the text file beside a recording says; None where there is none.

    Raises InputError where it is empty or cannot be read.
    """
    beside = file.with_suffix(".txt")
    if not beside.is_file():
        return None
    try:
        with beside.open("rb") as opened:
            said = opened.read(MAX_TRANSCRIPT_BYTES).decode("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"{beside} cannot be read: {reason}.", param="text") from error
    if not said:
        raise InputError(f"{beside} is empty: it must hold what the recording says.", param="text")
    return said


def exported_in(folder: Path) -> dict[str, Blob]:
    """The voices that were exported into a folder, by name. Raises StorageError."""
    if not any(folder.glob(f"*{SUFFIX}")):
        return {}  # then its JSON files are something else
    index = FolderIndex(folder, SUFFIX, check_description)
    index.refresh(wait=True)
    store = FolderStore(folder, SUFFIX, check_description)
    found = {name: store.get(name) for name in index.listed}
    return {name: blob for name, blob in found.items() if blob is not None}


def export_voice(name: str, blob: Blob, folder: Path, *, replacing: bool = False) -> None:
    """Write a saved voice into a folder. Raises Conflict, StorageError, StorageFull."""
    store, name = FolderStore(folder, SUFFIX, check_description), normal_name(name)
    if replacing:
        store.put(name, blob.about, blob.data)
    elif not store.put_if_absent(name, blob.about, blob.data):
        raise Conflict(f"{folder} holds a voice named {name!r} already.", param="name")


def warn_of_recordings(library: VoiceLibrary, info: EngineInfo, folders: Iterable[Path]) -> None:
    """Say in the log which recordings of folders are no voices, and what makes them voices.

    Looks into each folder, and into that of the engine's saved voices in it.
    """
    names = set(library.names())
    for folder in (each for outer in folders for each in (outer, outer / info.name)):
        found = recordings_in(folder) if folder.is_dir() else []
        unused = [each.file.name for each in found if each.name not in names]
        if not unused:
            continue
        listed = ", ".join(unused[:MOST_NAMED])
        more = f" and {len(unused) - MOST_NAMED} more" if len(unused) > MOST_NAMED else ""
        command = f"vivavoce voices import {shlex.quote(str(folder))} --engine {info.name}"
        how = f"To make voices of them: {command}"
        if not info.capabilities.cloning:
            how = f"This model of the engine {info.name} makes no voices of recordings."
        log.warning("%s holds recordings that are not used: %s%s. %s", folder, listed, more, how)
