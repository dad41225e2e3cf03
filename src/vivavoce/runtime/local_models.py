"""Published models, and what this machine has of them: what ``vivavoce models`` lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vivavoce.errors import ModelFileError
from vivavoce.runtime import hub
from vivavoce.runtime.hub_record import read_record


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A published model and where it is here: ``folder`` is None where it is not.

    ``kind`` is what it is in a word, ``size`` what its maker calls it ("" if nothing).
    ``download_bytes`` is about what a whole download takes, 0 where that is not known. ``verified``
    says that its large files agreed with published sums when they arrived.
    """

    name: str
    repo: str
    kind: str
    licence: str
    download_bytes: int
    revision: str = ""
    size: str = ""
    folder: Path | None = None
    verified: bool = False


def is_verified(folder: Path | None, names: set[str] | None = None) -> bool:
    """Whether the sums of these files (None: of any) were right when they arrived."""
    record = None if folder is None else read_record(folder)
    return record is not None and (names or set(record.sha256) or {""}) <= set(record.sha256)


def compared(path: Path, file: str, known: str, *, held_to_it: bool) -> str:
    """How a file's SHA-256 compares with the one it had when it arrived, or is published with.

    ``file`` is its name in its folder, ``path``'s beginning. ``known`` is the published sum, empty
    where none is. Raises ModelFileError where it has changed since it arrived, or is not the
    published one and is ``held_to_it``, or cannot be read.
    """
    try:
        digest = hub.sha256_of(path / file)
    except OSError as error:
        raise ModelFileError(f"{path / file} cannot be read: {error.strerror or error}") from error
    record = read_record(path)
    recorded = record.sha256.get(file, "") if record is not None else ""
    expected = recorded or (known if held_to_it else "")
    if expected and digest != expected:
        raise ModelFileError(f"{path / file} has changed: its SHA-256 is {digest}, was {expected}.")
    if digest in (recorded, known):
        return f"{digest}, as published."
    if known:
        return f"{digest}; not the published file, which has {known}."
    return f"{digest}; nothing published to compare it with."
