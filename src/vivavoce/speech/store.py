"""Named blobs with a description each: what saved voices stand on, and the names they have.

``MemoryStore`` forgets them with the process; ``folder_store.FolderStore`` keeps them on disk,
where several processes may share them. Both may be used from any thread.

A name may hold the letters of any script. A file name must do on every file system: those that know
no case, those that decompose accents, those with 255 bytes and those with reserved words. So a name
of plain letters is its own file name, and any other becomes a readable part and a digest.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import sys
import threading
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from vivavoce.errors import InputError, TooManyVoices

MAX_NAME_CHARS = 64

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_OTHER = " _-."
_READABLE_CHARS = 40
_DIGEST_CHARS = 16

MARK = "~"
"""Parts a file name's readable beginning from what makes it unique; no name holds it."""


def normal_name(name: str) -> str:
    """The one spelling (Unicode's NFC) of a name that can be typed in several."""
    return unicodedata.normalize("NFC", name)


def checked_name(name: str) -> str:
    """A new name in its normal spelling. Raises InputError for one that cannot be."""
    normal = normal_name(name)
    fits = 1 <= len(normal) <= MAX_NAME_CHARS and not normal.endswith(" ")
    if not fits or not _is_letter(normal[0]) or not all(map(_may_be_in_a_name, normal)):
        raise InputError(
            f"A name has 1 to {MAX_NAME_CHARS} letters, digits, spaces, '_', '-' or '.'; it starts"
            " with a letter or digit and does not end with a space.",
            param="name",
        )
    return normal


def folded(name: str) -> str:
    """What two names have in common that are told apart by their case alone."""
    return normal_name(name.casefold())


def file_stem(name: str) -> str:
    """The file name, without its ending, that stands for a name."""
    if _PLAIN.fullmatch(name) and not _RESERVED.fullmatch(name) and len(name) <= MAX_NAME_CHARS:
        return name
    ascii_letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^A-Za-z0-9]+", "-", ascii_letters).strip("-")[:_READABLE_CHARS]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    return f"{readable}{MARK}{digest}"


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] == "L" or unicodedata.category(character) == "Nd"


def _may_be_in_a_name(character: str) -> bool:
    # Marks are parts of letters in many scripts.
    return _is_letter(character) or unicodedata.category(character)[0] == "M" or character in _OTHER


Description: TypeAlias = Mapping[str, Any]
"""What JSON can hold."""


@dataclass(frozen=True, slots=True)
class Blob:
    """What is kept under a name; ``version`` is another one once it was replaced."""

    about: Description
    data: bytes
    version: str


class Store(ABC):
    """Blobs by name. Names that differ by their case alone are one name to ``put_if_absent``."""

    @abstractmethod
    def list(self) -> Mapping[str, Description]:
        """Every entry's description, in the order of the names.

        It is the same object until an entry is added, replaced or removed, by whomever.
        """

    @abstractmethod
    def get(self, name: str) -> Blob | None:
        """An entry, or None. Raises StorageError where it is there and cannot be read."""

    @abstractmethod
    def version(self, name: str) -> str | None:
        """The entry's version, or None; so cheap that a cache can ask at every use."""

    @abstractmethod
    def put_if_absent(
        self, name: str, about: Description, data: bytes, most: int = sys.maxsize
    ) -> bool:
        """Keep a new entry, one of at most ``most``; False where the name is taken.

        Raises TooManyVoices, StorageError, StorageFull.
        """

    @abstractmethod
    def put(self, name: str, about: Description, data: bytes) -> None:
        """Keep an entry, in place of what was there. Raises StorageError, StorageFull."""

    @abstractmethod
    def delete(self, name: str) -> bool:
        """Remove an entry, or what is left of one; False where there was nothing.

        Raises StorageError.
        """


class MemoryStore(Store):
    """Entries that last as long as the process."""

    def __init__(self) -> None:
        self._blobs: dict[str, Blob] = {}
        self._listed: Mapping[str, Description] = MappingProxyType({})
        self._versions = itertools.count(1)
        self._lock = threading.Lock()

    def list(self) -> Mapping[str, Description]:
        """See ``Store``."""
        return self._listed

    def get(self, name: str) -> Blob | None:
        """See ``Store``."""
        return self._blobs.get(name)

    def version(self, name: str) -> str | None:
        """See ``Store``."""
        blob = self._blobs.get(name)
        return None if blob is None else blob.version

    def put_if_absent(
        self, name: str, about: Description, data: bytes, most: int = sys.maxsize
    ) -> bool:
        """See ``Store``."""
        with self._lock:
            if folded(name) in map(folded, self._blobs):
                return False
            if len(self._blobs) >= most:
                raise TooManyVoices(len(self._blobs), most)
            self._keep(name, about, data)
            return True

    def put(self, name: str, about: Description, data: bytes) -> None:
        """See ``Store``."""
        with self._lock:
            self._keep(name, about, data)

    def delete(self, name: str) -> bool:
        """See ``Store``."""
        with self._lock:
            there = self._blobs.pop(name, None) is not None
            self._relist()
            return there

    def _keep(self, name: str, about: Description, data: bytes) -> None:
        self._blobs[name] = Blob(about, data, str(next(self._versions)))
        self._relist()

    def _relist(self) -> None:
        ordered = {name: self._blobs[name].about for name in sorted(self._blobs)}
        self._listed = MappingProxyType(ordered)
