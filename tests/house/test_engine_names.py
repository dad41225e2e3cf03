"""No engine is named outside of its room, nor an option that one of them has alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "vivavoce"

ROOMS = ("engines/piper/", "engines/qwen3/", "engines/neutts/")
ALLOWED = (
    "bench/",  # measures what is inside of one engine
    "engines/registry.py",  # which one speaks where none was asked for
    "runtime/espeak.py",  # by the package piper-tts, which brings espeak-ng
    "runtime/espeak_child.py",
    "serving/compat/",  # servers that had these names
    "testing/",  # files as they are published
)
PENDING = ("cli/", "settings.py", "settings_moved.py")
"""Where names are still to go."""

NAMES = re.compile(r"(?<![\w-])(piper|qwen3|neutts|max_frames|max_codes)(?![\w-])", re.IGNORECASE)


def named(text: str) -> Iterator[str]:
    """Engines in a module's code: in strings that are no docstrings, in names and imports."""
    tree = ast.parse(text)
    words = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in words:
            yield from NAMES.findall(node.value)
        elif isinstance(node, ast.ImportFrom):
            yield from NAMES.findall((node.module or "").replace(".", " "))
            yield from (name for alias in node.names for name in NAMES.findall(alias.name))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from NAMES.findall(alias.name.replace(".", " "))
        elif isinstance(node, ast.Attribute):
            yield from NAMES.findall(node.attr)


def test_no_engine_is_named_outside_of_its_room() -> None:
    found = {}
    for file in sorted(SOURCE.rglob("*.py")):
        path = file.relative_to(SOURCE).as_posix()
        if not path.startswith((*ROOMS, *ALLOWED, *PENDING)):
            found[path] = sorted(set(named(file.read_text(encoding="utf-8"))))
    assert {path: names for path, names in found.items() if names} == {}


def test_a_name_would_be_found() -> None:
    assert list(named("if engine == 'neutts': ...")) == ["neutts"]
    assert list(named("from vivavoce.engines.piper.voices import x")) == ["piper"]
    assert list(named("import vivavoce.engines.qwen3")) == ["qwen3"]
    assert list(named("LIMITS = {'max_codes'}")) == ["max_codes"]
    assert list(named('"""As Piper does."""')) == []
