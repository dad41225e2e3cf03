"""The project speaks of itself alone: nothing of the machine it was made on is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATHS = re.compile(r"(?<![\w.])/(?:root|home/\w+)/")


KINDS = {".py", ".md", ".toml", ".txt", ".json", ".yaml", ".yml", ".sh", ".mjs", ".lock", ""}
SKIPPED = {".git", ".venv", ".cache", ".venv-docs", "build", "dist", "site", "__pycache__"}


def files() -> list[Path]:
    """Every text file of the project."""
    found = []
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        hidden = any(part in SKIPPED or part.endswith(("_cache", ".egg-info")) for part in parts)
        if not hidden and ".hypothesis" not in parts and path.suffix in KINDS and path.is_file():
            found.append(path)
    return found


def test_no_path_of_a_machine() -> None:
    own = Path(__file__)
    found = [path for path in files() if path != own and PATHS.search(path.read_text("utf-8"))]
    assert found == []


def test_the_check_reads_the_project() -> None:
    assert {ROOT / "pyproject.toml", ROOT / "README.md", ROOT / ".ci" / "run"} <= set(files())


@pytest.mark.parametrize("planted", ["cd /root/x", "/home/me/src", "/home/you/y"])
def test_the_check_sees_a_path(planted: str) -> None:
    assert PATHS.search(planted)
