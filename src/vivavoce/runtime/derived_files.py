"""Files that were derived from a model: where they are kept, and how they get there whole.

What is derived is found again by what it was made from (a checksum in its name, or a note inside)
and checked before it is used; what is damaged is made anew. It is written beside its final place
and then renamed, so that no other process ever sees half of it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from vivavoce.errors import ModelFileError

log = logging.getLogger(__name__)

Found = TypeVar("Found")


def cache_root(configured: Path | None = None) -> Path:
    """Where derived files go: ``configured``, VIVAVOCE_CACHE_DIR, or the XDG cache folder."""
    if configured is not None:
        return configured
    if named := os.environ.get("VIVAVOCE_CACHE_DIR"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vivavoce"


def file_sha256(path: Path) -> str:
    """The checksum of a file, in hex. Raises ModelFileError where it cannot be read."""
    return fingerprint(path, hashlib.sha256)


def fingerprint(path: Path, digest: Callable[[], Any]) -> str:
    """A checksum of all that is in a file, in hex. Raises ModelFileError where it cannot be read.

    ``digest`` makes an object of ``hashlib``: formats that were written keep the one they have.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, digest).hexdigest()
    except OSError as error:
        raise ModelFileError(f"The model file {path} cannot be read: {error}") from error


@contextmanager
def derived_folder(
    what: str,
    places: Sequence[Path],
    read: Callable[[Path], Found | None],
    make: Callable[[Path], None],
) -> Iterator[Found]:
    """What ``read`` finds in the first of ``places`` that has it, made where none has.

    ``read`` says None where a folder is not there or not whole; ``make`` fills an empty one. Where
    no place can be written, it is made in a temporary folder, with a warning about ``what``, and
    gone afterwards. Raises what ``make`` raises but OSError, and ModelFileError where ``read``
    does not find what was made.
    """
    for place in places:
        if (found := read(place)) is not None:
            yield found
            return
    for place in places:
        try:
            found = _keep(place, read, make)
        except OSError as error:
            log.info("%s cannot be kept in %s: %s", what, place, error)
            continue
        if found is not None:
            yield found
            return
    log.warning("%s cannot be kept anywhere and is made at every start.", what)
    with tempfile.TemporaryDirectory(prefix="vivavoce-") as temporary:
        folder = Path(temporary)
        make(folder)
        if (found := read(folder)) is None:
            raise ModelFileError(f"{what} is damaged as soon as it is written.")
        yield found


def _keep(
    place: Path, read: Callable[[Path], Found | None], make: Callable[[Path], None]
) -> Found | None:
    """Write beside the final place, then rename. Raises OSError and what ``make`` raises."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".writing-") as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        make(made)
        found = read(place)
        if found is None:
            if place.exists():
                place.rename(Path(temporary) / "damaged")
            try:
                made.rename(place)
            except OSError:
                if read(place) is None:  # otherwise another process was first
                    raise
    return found or read(place)


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A path to write to; what is there at the end is on the disk and gets the name ``target``.

    Raises OSError; what was written is gone then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
