"""The runs for cards: each step's result stays, whatever becomes of the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "gpu"
SCRIPTS = {"rtx4060.sh": (), "h200.sh": ("all",)}

STAND_IN = """#!{python}
import json, os, sys, time
given = sys.argv[1:]
if "--json" not in given:
    raise SystemExit(0)
name = os.path.basename(given[given.index("--json") + 1])
with open(os.environ["ASKED"], "a") as asked:
    asked.write(json.dumps(given) + "\\n")
with open(given[given.index("--json") + 1], "w") as found:
    json.dump({{"found": name}}, found)
raise SystemExit(name == os.environ.get("FAILING"))
"""


def run(
    script: str, tmp_path: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    stand_in = tmp_path / "python"
    stand_in.write_text(STAND_IN.format(python=sys.executable))
    stand_in.chmod(0o755)
    around = {"PYTHON": str(stand_in), "TINY": "1", "ASKED": str(tmp_path / "asked")}
    command = ("bash", str(FOLDER / script), *(arguments or SCRIPTS[script]), str(tmp_path / "o"))
    return subprocess.run(
        command, env=os.environ | around | environment, capture_output=True, text=True, check=False
    )


def steps(tmp_path: Path) -> dict[str, int]:
    lines = (tmp_path / "o" / "steps.txt").read_text().splitlines()
    told = (line.split() for line in lines if not line.startswith("#"))
    return {name: int(status) for name, status, _ in told}


def asked(tmp_path: Path) -> list[list[str]]:
    return [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_step_has_its_own_result(script: str, tmp_path: Path) -> None:
    ran = run(script, tmp_path)
    assert ran.returncode == 0, ran.stderr
    told = steps(tmp_path)
    assert len(told) >= 7 and set(told.values()) == {0}
    for name in told:
        assert json.loads((tmp_path / "o" / f"{name}.json").read_text())["found"]
    for given in asked(tmp_path):
        assert given[:4] == ["-m", "vivavoce.cli", "bench", "engine"] and "--tiny" in given


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_step_that_fails_leaves_the_others_and_is_told(script: str, tmp_path: Path) -> None:
    ran = run(script, tmp_path, FAILING="correct.json")
    assert ran.returncode == 1 and "correct 1" in ran.stdout
    told = steps(tmp_path)
    assert told.pop("correct") == 1 and len(told) >= 6 and set(told.values()) == {0}
    kept = {path.stem for path in (tmp_path / "o").glob("*.json")}
    assert kept == {*told, "correct"}


@pytest.mark.parametrize("turn", ["1", "2", "3", "4"])
def test_a_turn_stays_within_ten_minutes(turn: str, tmp_path: Path) -> None:
    """What commands are limited to where such cards are lent."""
    ran = run("h200.sh", tmp_path, turn)
    limits = [int(line.split()[-2]) for line in ran.stdout.splitlines() if "at most" in line]
    assert ran.returncode == 0 and limits and sum(limits) <= 590
    assert len(steps(tmp_path)) == len(limits)


def test_a_turn_that_is_none_is_refused(tmp_path: Path) -> None:
    ran = run("h200.sh", tmp_path, "5")
    assert ran.returncode == 2 and "1, 2, 3, 4 or all" in ran.stdout


def test_a_step_beyond_its_time_is_ended_and_the_next_goes_on(tmp_path: Path) -> None:
    script = tmp_path / "short.sh"
    script.write_text(
        f"""source {FOLDER / "steps.sh"}
        begin {tmp_path / "o"}
        step first 60 bash -c 'echo found > {tmp_path / "o" / "first.txt"}'
        step endless 1 bash -c 'echo begun; sleep 600'
        step last 60 true
        end
        """
    )
    ran = subprocess.run(("bash", str(script)), capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert steps(tmp_path) == {"first": 0, "endless": 124, "last": 0}
    assert (tmp_path / "o" / "first.txt").read_text() == "found\n"
    assert "begun" in (tmp_path / "o" / "log.txt").read_text()
