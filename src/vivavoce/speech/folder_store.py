"""A store in a folder that several processes may share.

An entry is two files: ``NAME.json`` describes it and ``NAME.voice`` holds it (the ending is the
store's). The description is made last, from a file that is whole, and with a hard link, which no
two processes can both make: an entry is there once its ``.json`` is, belongs to one of them, and is
at no moment half. An entry that replaces another has its data in a file of another name, so that
one rename changes both.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from vivavoce.errors import InputError, StorageError, TooManyVoices
from vivavoce.speech.folder_files import (
    MAX_DATA_BYTES,
    Writing,
    read_description,
    read_plain,
    storage_errors,
    sweep,
    to_json,
)
from vivavoce.speech.folder_index import DATA, JSON, NAME, TRIES, FolderIndex
from vivavoce.speech.store import MARK, Blob, Description, Store, checked_name, file_stem, folded


class FolderStore(Store):
    """Entries in ``folder``; ``check`` raises ValueError for a description that cannot be one.

    What is damaged is named in the log, once, and is no entry; ``delete`` removes it. What a
    process that died left in the middle of writing is removed when the folder is first looked at.
    """

    def __init__(
        self, folder: Path, suffix: str, check: Callable[[Description], None] = lambda _: None
    ) -> None:
        self._folder = folder
        self._suffix = suffix
        self._index = FolderIndex(folder, suffix, check)
        self._swept = False
        # Not the index's: whoever only reads never waits for a disk.
        self._writing = threading.Lock()

    def list(self) -> Mapping[str, Description]:
        """See ``Store``. Costs one look at the folder where nothing changed."""
        self._index.refresh()
        if not self._swept:
            self._swept = True
            sweep(self._folder, self._spare)
        return self._index.listed

    def version(self, name: str) -> str | None:
        """See ``Store``. Costs three looks at files."""
        found = self._index.current(name)
        return None if found is None else found[1]

    def get(self, name: str) -> Blob | None:
        """See ``Store``."""
        with storage_errors("read"):
            for _ in range(TRIES):
                found = self._index.current(name)
                if found is None:
                    return None
                record, version = found
                try:
                    data = read_plain(self._folder / record.data_file, MAX_DATA_BYTES)
                except FileNotFoundError:
                    continue
                except ValueError as error:
                    raise StorageError(f"{name!r} cannot be read: {error}.") from error
                if self._index.current(name) == found:
                    return Blob(record.about, data, version)
        raise StorageError(f"{name!r} cannot be read: it changes all the time.")

    def put_if_absent(
        self, name: str, about: Description, data: bytes, most: int = sys.maxsize
    ) -> bool:
        """See ``Store``. Exact in this process; several that write at once may each keep one more.

        The file that takes the name is that of its folded spelling, so that of two processes only
        one can take names that differ by their case.
        """
        with self._writing, storage_errors("saved"):
            self._read_again()
            if self._index.taken(name) or self._remains(name):
                return False
            if len(self._index.records) >= most:
                raise TooManyVoices(len(self._index.records), most)
            return self._write(name, file_stem(folded(name)), about, data, new=True)

    def put(self, name: str, about: Description, data: bytes) -> None:
        """See ``Store``."""
        with self._writing, storage_errors("saved"):
            self._index.refresh(wait=True)
            before = self._index.records.get(name)
            if before is None and self._index.taken(name):
                raise StorageError(f"{name!r} differs from an entry's name by its case alone.")
            stem = file_stem(folded(name)) if before is None else before.stem
            self._write(name, stem, about, data, new=False)
            if before is not None:
                (self._folder / before.data_file).unlink(missing_ok=True)

    def delete(self, name: str) -> bool:
        """See ``Store``."""
        with self._writing, storage_errors("removed"):
            self._index.refresh(wait=True)
            record = self._index.records.get(name)
            if record is not None:
                # The description first: without it the rest is no entry.
                files = [record.stem + JSON, record.data_file, record.stem + self._suffix]
            elif self._index.taken(name):
                return False  # some file systems would find the other one's files under this name
            else:
                files = [stem + end for stem in _stems(name) for end in (JSON, self._suffix)]
            removed = [_remove(self._folder / file) for file in files]
            self._read_again()
            return any(removed)

    def _write(self, name: str, stem: str, about: Description, data: bytes, *, new: bool) -> bool:
        self._folder.mkdir(parents=True, exist_ok=True)
        with Writing(self._folder) as writing:
            contents, data_file = writing.temporary(data), stem + self._suffix
            while not writing.claim(contents, data_file):
                data_file = f"{stem}{MARK}{secrets.token_hex(4)}{self._suffix}"
            own = {} if stem == name else {NAME: name}
            if data_file != stem + self._suffix:
                own[DATA] = data_file
            described = writing.temporary(to_json({**about, **own}))
            if not new:
                writing.replace(described, stem + JSON)
            elif not writing.claim(described, stem + JSON):
                self._index.look_again()
                return False
            writing.keep()
        self._read_again()
        return True

    def _remains(self, name: str) -> bool:
        """Whether a description is there that gave the name before, when files knew cases."""
        stem = file_stem(name)
        return stem != file_stem(folded(name)) and os.path.lexists(self._folder / (stem + JSON))

    def _read_again(self) -> None:
        """Here and now, so that no other thread has to."""
        self._index.look_again()
        self._index.refresh(wait=True)

    def _spare(self, file: str) -> bool:
        """Whether a file was to replace an entry's data and never did, or did no longer."""
        spare = re.fullmatch(f"(.*){MARK}[0-9a-f]{{8}}{re.escape(self._suffix)}", file)
        if spare is None:
            return False
        try:
            return read_description(self._folder / (spare[1] + JSON)).get(DATA) != file
        except FileNotFoundError:
            return True
        except (OSError, ValueError):
            return False


def _stems(name: str) -> set[str]:
    """Where remains of an entry may be; a path never."""
    try:
        plain = checked_name(name)
        return {file_stem(folded(plain)), file_stem(plain), plain}
    except InputError:
        return set()


def _remove(path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        return False  # nothing that a store ever made
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
