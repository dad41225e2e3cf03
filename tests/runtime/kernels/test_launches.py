"""How many kernels a frame launches, so that small ones do not creep back between the large."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

MOST_BESIDE = 8
"""Launches of a frame beside the five of each layer, and the head and the sampler of each code:
the text's embedding and the two maps behind it, what a step changes, what codes change, and 1.7B's
map before the code predictor; two more may come."""


def test_a_frame_is_little_but_its_layers_and_codes(tmp_path: Path) -> None:
    told = tmp_path / "launches.json"
    recipe = ["-m", "vivavoce.cli", "bench", "recipe", "qwen3_launches"]
    command = [sys.executable, *recipe, "--rows=4", "--json", str(told)]
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    frames = json.loads(told.read_text())["now"]
    assert len(frames) == 4
    for each in frames:
        layers, codes = 28 * ("step" in each["kind"]) + 5 * 15, 16
        assert each["kernels"]["attend_kernel"] == layers, each
        assert each["triton"] <= 5 * layers + 2 * codes + MOST_BESIDE, each
        assert each["pytorch"] <= 2, each["operations"]
