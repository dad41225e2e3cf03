"""Files of a folder that several processes may write to, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from vivavoce.errors import StorageError, StorageFull

if os.name == "posix":
    import fcntl

MAX_DESCRIPTION_BYTES = 8 * 1024 * 1024
MAX_DATA_BYTES = 256 * 1024 * 1024
NO_FILE = "it is no plain file"
TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp|tmp[a-z0-9_]{8}")
"""Names of files that are being written; the second kind was used before."""

_NEVER_WAIT = getattr(os, "O_NONBLOCK", 0)

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
# What file systems without hard links answer.
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EACCES}


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn OSError into StorageFull or StorageError; ``doing`` is a past participle."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(f"It cannot be {doing}: there is no room left for it.") from error
        reason = error.strerror or "the file system refuses"
        raise StorageError(f"It cannot be {doing}: {reason}.") from error


def read_description(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ValueError where the file holds none, OSError."""
    data = read_plain(path, MAX_DESCRIPTION_BYTES)
    try:
        found = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("the description is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("the description is not a JSON object")
    return found


def read_plain(path: Path, most_bytes: int) -> bytes:
    """What a file holds, or the one that a link leads to. Raises ValueError, OSError.

    A pipe would keep its reader waiting, and a device might never end: they are no files here.
    """
    number = os.open(path, os.O_RDONLY | _NEVER_WAIT | getattr(os, "O_BINARY", 0))
    with open(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise ValueError(NO_FILE)
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError("it is far too large")
    return data


def to_json(about: Mapping[str, Any]) -> bytes:
    """A description as it is written."""
    return json.dumps(about, ensure_ascii=False, allow_nan=False).encode()


def sweep(folder: Path, leftover: Callable[[str], bool]) -> None:
    """Remove temporary files, and those that ``leftover`` names, of processes that are no more.

    Nothing is removed while any process writes to the folder; a folder that cannot be written to
    stays as it is.
    """
    lock = _lock(folder, shared=False)
    if lock is None:
        return
    try:
        with contextlib.suppress(OSError):
            for file in os.listdir(folder):
                if TEMPORARY.fullmatch(file) or leftover(file):
                    (folder / file).unlink(missing_ok=True)
    finally:
        os.close(lock)


class Writing:
    """A change of a folder: at the end nothing is left of it, unless ``keep`` was called.

    Other processes see by a lock on the folder that somebody writes (see ``sweep``); the system
    lets go of it with the process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: int | None = None
        self._temporary: list[Path] = []
        self._made: list[Path] = []

    def __enter__(self) -> Writing:
        self._lock = _lock(self._folder, shared=True)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for path in (*self._temporary, *self._made):
                path.unlink(missing_ok=True)
        finally:
            if self._lock is not None:
                os.close(self._lock)

    def temporary(self, data: bytes) -> Path:
        """A new file with this content, on the disk."""
        path = self._folder / f".{secrets.token_hex(8)}.tmp"
        self._temporary.append(path)
        number = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with open(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return path

    def claim(self, temporary: Path, name: str) -> bool:
        """Give a temporary file a name; False if that is taken, even a moment ago."""
        target = self._folder / name
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._claim_without_links(temporary, target)
        self._made.append(target)
        return True

    def replace(self, temporary: Path, name: str) -> None:
        """Give a temporary file a name, in place of what has it."""
        os.replace(temporary, self._folder / name)

    def keep(self) -> None:
        """What was named stays."""
        self._made.clear()
        _sync(self._folder)

    def _claim_without_links(self, temporary: Path, target: Path) -> bool:
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        self._made.append(target)
        os.replace(temporary, target)
        return True


def _lock(folder: Path, *, shared: bool) -> int | None:
    """A descriptor that holds the lock; None where there are no locks, or it is taken."""
    if os.name != "posix":
        return None
    try:
        number = os.open(folder, os.O_RDONLY | _NEVER_WAIT)
    except OSError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        return None
    return number


def _sync(folder: Path) -> None:
    """Make names last through a loss of power, where the system can."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")
