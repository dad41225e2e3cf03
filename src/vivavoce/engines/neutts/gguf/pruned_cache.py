"""The pruned copy of a model, made once and kept beside it."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from vivavoce.engines.neutts.family import PromptLayout
from vivavoce.engines.neutts.gguf.kept_tokens import Ids
from vivavoce.engines.neutts.gguf.metadata import read_header
from vivavoce.engines.neutts.gguf.prune import SOURCE, prune
from vivavoce.errors import ModelFileError
from vivavoce.runtime.derived_files import fingerprint, written_whole

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
    try:
        stamp = f"{_quick(source, layout)} {_digest(source)}"
        with written_whole(target) as part:
            rows = prune(source, part, layout, needed, stamp)
    except OSError as error:
        log.warning("%s cannot be written (%s); using the whole model.", target, error.strerror)
        return source
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
    return fingerprint(source, lambda: hashlib.blake2b(digest_size=16))
