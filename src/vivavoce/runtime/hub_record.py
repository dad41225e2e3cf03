"""``vivavoce.json`` beside downloaded files: what they are, and that they are whole.

It is written when everything has arrived and taken away before anything is changed, so that a
folder with a record holds files of one revision.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

RECORD = "vivavoce.json"


@dataclass(frozen=True, slots=True)
class Record:
    """A finished download: its files, and the SHA-256 sums that were checked when they arrived.

    Records of earlier versions know either no ``files`` or no ``sha256``.
    """

    repo: str
    revision: str
    files: tuple[str, ...]
    sha256: Mapping[str, str]


def read_record(folder: Path) -> Record | None:
    """The record of a folder, if every file that it names is there."""
    record = last_record(folder)
    if record is None:
        return None
    whole = all((folder / name).is_file() for name in (*record.files, *record.sha256))
    return record if whole else None


def last_record(folder: Path) -> Record | None:
    """What a folder was filled with, whether or not it is still there."""
    try:
        told = json.loads((folder / RECORD).read_text("utf-8"))
        return Record(
            str(told["repo"]),
            str(told["revision"]),
            tuple(str(name) for name in told.get("files", ())),
            {str(name): str(digest) for name, digest in told.get("sha256", {}).items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_record(folder: Path, record: Record) -> None:
    """Say that a folder is whole. Raises OSError."""
    part = folder / f".{RECORD}.part"
    part.write_text(json.dumps(asdict(record), indent=2) + "\n", "utf-8")
    os.replace(part, folder / RECORD)
