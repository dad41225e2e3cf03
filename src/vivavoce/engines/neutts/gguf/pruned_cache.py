"""The pruned copy of a model, made once and kept beside it."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path

from vivavoce.engines.neutts.family import PromptLayout
from vivavoce.engines.neutts.gguf.kept_tokens import Ids
from vivavoce.engines.neutts.gguf.metadata import read_header
from vivavoce.engines.neutts.gguf.prune import SOURCE, prune
from vivavoce.errors import ModelFileError

log = logging.getLogger(__name__)

RULES = 1
"""Counts up whenever other rows are kept, so that old copies are made anew."""

SUFFIX = ".pruned.gguf"


def pruned_copy(
    source: Path, layout: PromptLayout, needed: Ids, folder: Path | None = None
) -> Path:
    """The pruned copy of ``source``, made now if there is none that fits.

    It lies beside the source, or in ``folder``. A copy fits when the source's size and time of
    change are those it was made from, or else its content is (BLAKE2b). Where it cannot be
    written the source itself is returned, with a warning: it does the same, slower. Raises
    ModelFileError where the source is damaged.
    """
    target = (folder or source.parent) / (source.stem + SUFFIX)
    if _fits(target, source, layout):
        return target
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        rows = prune(source, part, layout, needed, f"{_quick(source, layout)} {_digest(source)}")
        _settle(part, target)
    except OSError as error:
        log.warning("%s cannot be written (%s); using the whole model.", target, error.strerror)
        return source
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    log.info("Wrote %s with %d vocabulary rows.", target, rows)
    return target


def _fits(target: Path, source: Path, layout: PromptLayout) -> bool:
    if not target.is_file():
        return False
    try:
        header = read_header(target)
        whole, stamp = header.is_whole(), header.text(SOURCE) or ""
    except ModelFileError:
        return False
    if not whole:
        return False
    quick, _, digest = stamp.rpartition(" ")
    if quick == _quick(source, layout):
        return True
    same_size = quick.rpartition(":")[0] == _quick(source, layout).rpartition(":")[0]
    return same_size and digest == _digest(source)


def _quick(source: Path, layout: PromptLayout) -> str:
    """What tells two files apart without reading them."""
    status = source.stat()
    return f"{RULES}:{layout}:{status.st_size}:{status.st_mtime_ns}"


def _digest(source: Path) -> str:
    with source.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _settle(part: Path, target: Path) -> None:
    """Give a written file its name, whole or not at all."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)
