"""Files that a request may have written: below one folder, whole or not at all."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO
from unicodedata import category

from vivavoce.audio.encode import SoundFile, delivered_format
from vivavoce.audio.formats import ENCODINGS, Encoder
from vivavoce.errors import InputError, SettingsError, SetupError
from vivavoce.types import Samples

MAX_NAME_BYTES = 255
SPOOL_BYTES = 8 * 1024 * 1024
_DECEIVING = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
"""Unicode's categories of controls, format characters (the bidirectional ones are among them), line
and paragraph separators, halves of pairs."""

_JOINERS = "\u200c\u200d"
"""Format characters that some languages are written with."""

_WINDOWS = re.compile(r'[<>:"|?*\\]')
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    | {f"{name}{number}" for name in ("COM", "LPT") for number in "0123456789¹²³"}
)
_COUNT = itertools.count()


class OutputFolder:
    """Turns names that clients choose into paths below ``root``. None: nothing may be written.

    Raises SettingsError where the folder is none and cannot be made.
    """

    def __init__(self, root: Path | None) -> None:
        self.root = root
        if root is not None:
            try:
                root.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SettingsError(f"output_dir: {error}.", param="output_dir") from error

    def path(self, name: str) -> Path:
        """Where ``name`` is written. Raises InputError for what is outside, by link or by name."""
        if self.root is None:
            raise _refused("this server writes no files; its setting output_dir allows it")
        root = self.root.resolve()
        # A whole path into the folder is taken, too; what leads to the folder is its owner's.
        _check_parts(name.removeprefix(f"{self.root}/").removeprefix(f"{root}/"))
        given = root / name
        if len(os.fsencode(given.name)) > MAX_NAME_BYTES:
            raise _refused("no usable file name")
        try:
            folder = given.parent.resolve()
            inside = folder.is_relative_to(root) and folder.is_dir()
            taken = given.is_dir() or given.name in ("", "..")
        except (OSError, RuntimeError) as error:  # too long, a loop of links
            raise _refused("no usable file name") from error
        if not inside or taken:
            raise _refused("must name a file in an existing folder below the server's output_dir")
        return folder / given.name


def encoding_of(path: Path) -> str:
    """What the name's ending asks for; WAV without one. Raises InputError."""
    ending = path.suffix.lstrip(".").lower()
    if not ending:
        return "wav"
    if ending not in ENCODINGS:
        raise _refused(
            f"no format is known for .{ending}; there are {', '.join(sorted(ENCODINGS))}"
        )
    return ending


class OutputFile(Encoder):
    """One stream's sound on its way into a file, which stands under its name once it is whole.

    A link there is replaced, never followed. What is encoded waits in memory up to ``SPOOL_BYTES``
    and then in a temporary file without a name. Use it in threads. Raises SetupError where it
    cannot be written; ``wanted`` is asked last, and where it says no nothing is.
    """

    def __init__(
        self, path: Path, source_hz: int, encoding: str, wanted: Callable[[], bool]
    ) -> None:
        self._path = path
        self._wanted = wanted
        self._spool: IO[bytes] = SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 - close() does
        target = delivered_format(encoding, None, source_hz)
        self._sound = SoundFile(self._spool, source_hz, target)

    def push(self, samples: Samples) -> bytes:
        """Take sound; returns nothing."""
        with self._said():
            return self._sound.push(samples)

    def finish(self) -> bytes:
        """Put the file under its name."""
        with self._said():
            self._sound.finish()
            if self._wanted():
                self._spool.seek(0)
                self._put()
        self.close()
        return b""

    def close(self) -> None:
        """Give it up. Idempotent."""
        self._sound.close()
        self._spool.close()

    def _put(self) -> None:
        part = self._path.with_name(f".{os.getpid()}-{next(_COUNT)}.part")
        try:
            with part.open("xb") as file:
                shutil.copyfileobj(self._spool, file)
            part.replace(self._path)
        finally:
            part.unlink(missing_ok=True)

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = error.strerror or type(error).__name__
            name = self._path.name
            raise SetupError(f"{name} cannot be written: {why}.", param="output") from error


def _check_parts(name: str) -> None:
    """Raise InputError where a part of the name would deceive, hide, or not be portable.

    Control and format characters make a listing show another name than there is, a leading hyphen
    is an option to most commands, a leading dot hides a file, and Windows cannot hold the rest.
    """
    for part in name.split("/"):
        if any(category(each) in _DECEIVING and each not in _JOINERS for each in part):
            raise _refused("control or bidirectional characters are in the name")
        if part.startswith(("-", ".")):
            raise _refused("a name may not begin with '-' or '.'")
        if part != part.rstrip(". ") or _WINDOWS.search(part) or _device(part):
            raise _refused("not every system can hold a file of that name")


def _device(part: str) -> bool:
    """Whether Windows takes it for a device, whatever its ending."""
    return part.partition(".")[0].rstrip().upper() in _DEVICES


def _refused(why: str) -> InputError:
    return InputError(f"output: {why}.", param="output")
