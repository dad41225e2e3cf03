"""What a store's folder holds, remembered until the folder's time of change is another one."""

from __future__ import annotations

import itertools
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from vivavoce.errors import InputError
from vivavoce.speech.folder_files import NO_FILE, read_description
from vivavoce.speech.store import MARK, Description, checked_name, file_stem, folded

log = logging.getLogger(__name__)

SETTLED_S = 2.0
"""File systems tell time in steps of up to this: a folder that changed later may do so unseen."""

LOOK_AGAIN_S = 0.1
"""How often a folder that changed so lately is read again."""

BEING_WRITTEN_S = 60.0
"""Data without a description are a remnant once they are older than this."""

JSON = ".json"
NAME, DATA = "name", "data"
"""Keys of a description that are the store's own."""

TRIES = 5

Signature: TypeAlias = tuple[int, int, int]
"""Inode, size and time of change of a file: another one once it was replaced."""


@dataclass(frozen=True, slots=True)
class Record:
    """An entry, as its description tells it; ``data_file`` is in the same folder."""

    name: str
    folded_name: str
    about: Description
    stem: str
    data_file: str
    signature: Signature


@dataclass(frozen=True, slots=True)
class _Damaged:
    why: str
    signature: Signature | None = None


class FolderIndex:
    """The entries of a folder. Files that are none, and should be, are named in the log once.

    ``records`` has every entry by name, ``listed`` its description; both are other objects once
    anything changed, whoever did it. Any thread may ask; while one reads the folder again, the
    others go on with what was known.
    """

    def __init__(self, folder: Path, suffix: str, check: Callable[[Description], None]) -> None:
        self.records: Mapping[str, Record] = {}
        self.listed: Mapping[str, Description] = MappingProxyType({})
        self._folder = folder
        self._suffix = suffix
        self._check = check
        self._scanning = threading.Lock()
        self._folded: frozenset[str] = frozenset()
        self._read: dict[str, Record | _Damaged] = {}
        self._complaints: Mapping[str, str] = {}
        self._changes = itertools.count(1)
        self._change = 0
        self._stamp: tuple[int, ...] = ()
        self._looked_s = 0.0
        self._settled = False

    def refresh(self, *, wait: bool = False) -> None:
        """Read the folder again where it may have changed; else this is one look at it.

        Where another thread is reading it, that one's work will do, or with ``wait`` is awaited.
        """
        if not self._scanning.acquire(blocking=wait):
            return
        try:
            self._refresh()
        except FileNotFoundError:
            self._stamp = ()
            self._take({})
        except OSError as error:
            # What was known stays: a network folder may be back in a moment.
            self._complain({str(self._folder): f"it cannot be read: {error.strerror}"})
        finally:
            self._scanning.release()

    def look_again(self) -> None:
        """The folder has changed, whatever its time says."""
        self._change = next(self._changes)

    def taken(self, name: str) -> bool:
        """Whether an entry has that name, or one that differs by its case alone."""
        return folded(name) in self._folded

    def current(self, name: str) -> tuple[Record, str] | None:
        """An entry as its files are at this moment, and a version that changes with them."""
        for attempt in range(TRIES):
            self.refresh(wait=attempt > 0)
            record = self.records.get(name)
            if record is None:
                return None
            described = _signature(self._folder / (record.stem + JSON))
            data = _signature(self._folder / record.data_file)
            if described == record.signature and data is not None:
                return record, "-".join(f"{number:x}" for number in (*described, *data))
            self.look_again()
        return None

    def _refresh(self) -> None:
        seen = self._folder.stat()
        stamp = (seen.st_mtime_ns, seen.st_ino, seen.st_dev, self._change)
        soon = time.monotonic() - self._looked_s < LOOK_AGAIN_S
        if stamp == self._stamp and (self._settled or soon):
            return
        settled = time.time_ns() - seen.st_mtime_ns > SETTLED_S * 1e9
        with os.scandir(self._folder) as found:
            self._scan({file.name: file for file in found})
        self._stamp, self._settled, self._looked_s = stamp, settled, time.monotonic()

    def _scan(self, files: Mapping[str, os.DirEntry[str]]) -> None:
        stems = [file.removesuffix(JSON) for file in files if file.endswith(JSON)]
        self._read = {stem: self._described(stem, files[stem + JSON]) for stem in stems}
        records: dict[str, Record] = {}
        complaints: dict[str, str] = {}
        for stem, found in self._read.items():
            if isinstance(found, _Damaged):
                complaints[stem + JSON] = found.why
            elif _signature(self._folder / found.data_file) is None:
                complaints[stem + JSON] = "its data are missing, or no plain file"
            elif found.name not in records or stem == file_stem(found.name):
                records[found.name] = found
        self._take(records)
        for file in self._remnants(files.values()):
            complaints[file] = "its description is missing"
        self._complain(complaints)

    def _described(self, stem: str, file: os.DirEntry[str]) -> Record | _Damaged:
        """What a description says; read again only where it changed."""
        try:
            status = file.stat()
            signature = _signature_of(status)
            if not stat.S_ISREG(status.st_mode):
                return _Damaged(NO_FILE, signature)
            known = self._read.get(stem)
            if known is not None and known.signature == signature:
                return known
            about = read_description(self._folder / file.name)
        except OSError as error:
            return _Damaged(f"it cannot be read: {error.strerror}")
        except ValueError as error:
            return _Damaged(str(error), signature)
        try:
            return self._record(stem, about, signature)
        except (ValueError, InputError) as error:
            return _Damaged(str(error), signature)

    def _record(self, stem: str, about: dict[str, object], signature: Signature) -> Record:
        name, data_file = about.pop(NAME, stem), about.pop(DATA, stem + self._suffix)
        if not isinstance(name, str) or checked_name(name) != name:
            raise ValueError("its name is none that an entry can have")
        if stem not in (name, file_stem(name), file_stem(folded(name))):
            raise ValueError("its name belongs to another file")
        own = re.escape(stem) + f"(?:{MARK}[0-9a-f]{{8}})?" + re.escape(self._suffix)
        if not isinstance(data_file, str) or not re.fullmatch(own, data_file):
            raise ValueError("it names a file that is not its own")
        self._check(about)
        return Record(name, folded(name), MappingProxyType(about), stem, data_file, signature)

    def _remnants(self, files: Iterable[os.DirEntry[str]]) -> list[str]:
        """Data that no description names, and that nobody is just writing."""
        named = {each.data_file for each in self._read.values() if isinstance(each, Record)}
        found = []
        for file in files:
            stem = file.name.removesuffix(self._suffix)
            if file.name == stem or file.name in named or stem in self._read:
                continue
            signature = _signature(Path(file.path))
            if signature is None:
                lost = os.path.lexists(file.path)  # a pipe, a device, a link to nowhere
            else:
                lost = time.time_ns() - signature[2] > BEING_WRITTEN_S * 1e9
            if lost:
                found.append(file.name)
        return found

    def _take(self, records: Mapping[str, Record]) -> None:
        if records == self.records:
            return
        self.records = {name: records[name] for name in sorted(records)}
        self.listed = MappingProxyType({name: each.about for name, each in self.records.items()})
        self._folded = frozenset(each.folded_name for each in records.values())

    def _complain(self, complaints: Mapping[str, str]) -> None:
        for file, why in complaints.items():
            if self._complaints.get(file) != why:
                log.warning("a saved entry is left out", extra={"file": file, "why": why})
        self._complaints = complaints


def _signature(path: Path) -> Signature | None:
    """Of a plain file; None for what is none, or not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return _signature_of(found) if stat.S_ISREG(found.st_mode) else None


def _signature_of(found: os.stat_result) -> Signature:
    return found.st_ino, found.st_size, found.st_mtime_ns
