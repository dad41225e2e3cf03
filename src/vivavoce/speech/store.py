"""Named blobs with a description each: what saved voices stand on.

``MemoryStore`` forgets them with the process; ``folder_store.FolderStore`` keeps them on disk,
where several processes may share them. Both may be used from any thread.
"""

from __future__ import annotations

import itertools
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from vivavoce.errors import TooManyVoices
from vivavoce.speech.names import folded

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
