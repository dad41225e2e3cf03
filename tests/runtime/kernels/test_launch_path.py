"""What the interpreter does not do of a launch: binding arguments, compiling for a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

TESTS = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "precision"), [(90, "int8"), (89, "fp8"), (80, "none")])
def test_a_frame_is_launched_as_it_will_be_on_a_gpu(
    capability: int, precision: str, tmp_path: Path
) -> None:
    """Every call of a frame, with its own tensors, compiles where no GPU is."""
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(paths), "TRITON_CACHE_DIR": str(tmp_path)}
    environment = {**os.environ, **own, "TRITON_INTERPRET": "0"}
    command = [sys.executable, str(Path(__file__).with_name("launching.py"))]
    done = subprocess.run(
        [*command, str(capability), precision],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    made = json.loads(done.stdout)
    layers, passes, frames = 2, 2, 2
    assert made["attend_kernel"] == layers * frames * (1 + passes)
    assert made["sample_kernel"] == frames * (1 + passes)
    ends = ("text_kernel", "settle_kernel", "finish_kernel")
    assert [made[name] for name in ends] == [frames] * 3 and "norm_kernel" not in made
    assert made["vector_kernel"] > 0 < made["dot_kernel"]
