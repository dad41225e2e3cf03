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

RECIPE = ("-m", "vivavoce.cli", "bench", "recipe", "kernels_aot")


def report(folder: Path, *options: str) -> list[dict[str, object]]:
    """Compiled in a process of its own: in this one, Triton interprets."""
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    path = folder / "aot.json"
    command = [sys.executable, *RECIPE, "--json", str(path), *options]
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows: list[dict[str, object]] = json.loads(path.read_text())["kernels"]
    return rows


# Compiling takes half a minute here, and several on a busy machine.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("capability", ["80", "89", "90"])
def test_the_kernels_of_one_row_compile_without_spills(tmp_path: Path, capability: str) -> None:
    rows = report(tmp_path, "--quick", "--capability", capability)
    assert len(rows) > 10
    assert {row["capability"] for row in rows} == {int(capability)}
    assert all(row["spilled_bytes"] == 0 for row in rows)
    assert max(int(str(row["shared_bytes"])) for row in rows) <= MOST_SHARED_BYTES
    check_attention(rows)


def check_attention(rows: list[dict[str, object]]) -> None:
    """Its loop runs once for 16 positions of each layer: what waits there is paid often."""
    found = [row for row in rows if str(row["kernel"]).startswith("attend")]
    assert {str(row["kernel"]) for row in found} >= {"attend talker", "attend frame"}
    for row in found:
        assert int(str(row["barriers"])) <= 20 and row["loop_barriers"] == 0, row
        assert int(str(row["loop_loads"])) <= 4, row


def test_loops_are_found_by_the_branch_that_leads_back() -> None:
    from vivavoce.runtime.kernels.ahead import loops

    ptx = """
$L__BB0_1:
    ld.global.b32 %r1, [%rd1];
    @%p1 bra $L__BB0_3;
$L__BB0_2:
    ld.global.b32 %r2, [%rd2];
    @%p2 bra $L__BB0_2;
    bra.uni $L__BB0_1;
$L__BB0_3:
    ret;
"""
    inner, outer = loops(ptx)
    assert inner.count("ld.global") == 1 and outer.count("ld.global") == 2
    assert loops("$L__BB0_1:\n    ret;") == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_kernels_compile_without_spills(tmp_path: Path) -> None:
    rows = report(tmp_path)
    assert len(rows) > 200
    check_attention(rows)
    assert all(row["spilled_bytes"] == 0 for row in rows)
    assert max(int(str(row["shared_bytes"])) for row in rows) <= MOST_SHARED_BYTES
