"""Recipes are listed without being imported, and run as a command with options of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from vivavoce.bench.recipes.book import recipes


def vivavoce(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vivavoce.cli", "bench", "recipe", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_recipe_has_a_line() -> None:
    found = recipes()
    assert {"calls", "loop_guard", "mutation", "quality", "qwen3_codec", "soak"} <= set(found)
    assert {"turns", "book", "watched_server"}.isdisjoint(found)
    assert all(20 < len(summary) <= 100 for summary in found.values())


def test_the_list() -> None:
    ran = vivavoce()
    assert ran.returncode == 0, ran.stderr
    assert [line.split()[0] for line in ran.stdout.splitlines()] == list(recipes())


def test_a_recipe_measures_a_checkout_in_processes_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    here = Path(__file__).parents[2]
    ran = vivavoce(
        "loop_guard", "--rounds", "1", "--frames", "40", "--before", str(here), "--json", str(file)
    )
    assert ran.returncode == 0, ran.stderr
    report = json.loads(file.read_text())
    assert report["kind"] == "loop_guard" and report["date"] and "commit" in report
    assert set(report["us_a_row_and_frame"]) == {"before", "now"}


def test_an_unknown_recipe_is_named() -> None:
    ran = vivavoce("cakes")
    assert ran.returncode == 2 and "cakes" in ran.stderr


def test_a_recipe_s_own_options_are_told() -> None:
    ran = vivavoce("soak", "--", "--help")
    assert ran.returncode == 0 and "--minutes" in ran.stdout, ran.stderr
