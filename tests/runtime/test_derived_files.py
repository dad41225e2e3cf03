from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vivavoce.errors import ModelFileError
from vivavoce.runtime.derived_files import cache_root, file_sha256


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("VIVAVOCE_CACHE_DIR", raising=False)
    assert cache_root() == tmp_path / "xdg" / "vivavoce"
    monkeypatch.setenv("VIVAVOCE_CACHE_DIR", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
    assert cache_root(tmp_path) == tmp_path


def test_a_file_is_known_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"weights")
    assert file_sha256(path) == hashlib.sha256(b"weights").hexdigest()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="nothing"):
        file_sha256(tmp_path / "nothing")
