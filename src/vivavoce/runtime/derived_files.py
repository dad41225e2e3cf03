"""Where files that were derived from a model are kept, and how a model is recognized."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from vivavoce.errors import ModelFileError


def cache_root(configured: Path | None = None) -> Path:
    """Where derived files go: ``configured``, VIVAVOCE_CACHE_DIR, or the XDG cache folder."""
    if configured is not None:
        return configured
    if named := os.environ.get("VIVAVOCE_CACHE_DIR"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vivavoce"


def file_sha256(path: Path) -> str:
    """The checksum of a file, in hex. Raises ModelFileError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(f"The model file {path} cannot be read: {error}") from error
