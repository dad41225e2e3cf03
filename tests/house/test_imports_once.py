"""Libraries that must be set up before they are imported are imported in one place."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "vivavoce"
THE_PLACE = "runtime/onnx.py"
SWITCH = "switch_telemetry_off()"


def importers(package: str) -> dict[str, str]:
    """The files that import a package, and their text."""
    found = {}
    for file in sorted(SOURCE.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            if any(name.split(".")[0] == package for name in names):
                found[str(file.relative_to(SOURCE))] = text
    return found


def test_onnx_runtime_is_imported_where_its_telemetry_is_switched_off_and_nowhere_else() -> None:
    assert list(importers("onnxruntime")) == [THE_PLACE]
    text = importers("onnxruntime")[THE_PLACE]
    assert text.index(SWITCH) < text.index("import onnxruntime\n")


def test_piper_which_imports_it_is_not_imported() -> None:
    assert importers("piper") == {}
