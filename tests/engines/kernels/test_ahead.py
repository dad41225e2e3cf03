"""Every kernel compiles for the GPUs it is meant for, without one, and nothing spills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

MOST_SHARED_BYTES = 99 * 1024
"""Of one program on sm_89; sm_90 has more (CUDA C++ Programming Guide, compute capabilities)."""

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "kernels_aot.py"


def report(folder: Path, *options: str) -> list[dict[str, object]]:
    """Compiled in a process of its own: in this one, Triton interprets."""
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    path = folder / "aot.json"
    command = [sys.executable, str(SCRIPT), "--json", str(path), *options]
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows: list[dict[str, object]] = json.loads(path.read_text())["kernels"]
    return rows


# Compiling takes half a minute here, and several on a busy machine.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("capability", ["89", "90"])
def test_the_kernels_of_one_row_compile_without_spills(tmp_path: Path, capability: str) -> None:
    rows = report(tmp_path, "--quick", "--capability", capability)
    assert len(rows) > 10
    assert {row["capability"] for row in rows} == {int(capability)}
    assert all(row["spilled_bytes"] == 0 for row in rows)
    assert max(int(str(row["shared_bytes"])) for row in rows) <= MOST_SHARED_BYTES


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_kernels_compile_without_spills(tmp_path: Path) -> None:
    rows = report(tmp_path)
    assert len(rows) > 200
    assert all(row["spilled_bytes"] == 0 for row in rows)
    assert max(int(str(row["shared_bytes"])) for row in rows) <= MOST_SHARED_BYTES
