"""All recipes by name, and how one is run: its options, and the file for its figures."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from .turns import RESULTS, Result


def recipes() -> dict[str, str]:
    """Every recipe with its first line; none is imported."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if {"options", "main"} <= names:
            found[file.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def run(name: str, words: Sequence[str]) -> int:
    """Measure, show, and write the report; 0 where the figures keep what is promised of them.

    Whatever a recipe returns stands in the report beside where and when it was measured.
    """
    from vivavoce.bench.device import provenance
    from vivavoce.bench.results import SCHEMA, write_json

    recipe = import_module(f".{name}", __package__)
    parser = argparse.ArgumentParser(
        prog=f"vivavoce bench recipe {name}",
        description=recipe.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, default=RESULTS / f"{name}.json", help="the report")
    recipe.options(parser)
    asked = parser.parse_args(words)
    told = provenance(("vivavoce", "bench", "recipe", name, *words))
    found: Result = recipe.main(asked)
    if found.keep:
        write_json(asked.json, json_of({"schema": SCHEMA, "kind": name, **told, **found.figures}))
    return 0 if found.well else 1


def json_of(report: dict[str, Any]) -> dict[str, Any]:
    """The same as JSON has it: keys are text."""
    return dict(json.loads(json.dumps(report)))
