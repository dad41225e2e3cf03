"""Code for code what the published package gives, on random weights, fp32, on a CPU.

QWEN_TTS_PYTHON names a Python interpreter (3.11) that has it; without one these tests are skipped::

    pip install torch==2.13.0 transformers==4.57.3 accelerate==1.12.0 librosa soundfile einops
    pip install --no-deps qwen-tts==0.1.1
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.qwen3.tiny import Bench, alone
from interop.qwen_tts.cases import Case, cases, job, model, torch_draw
from vivavoce.runtime.kernels.frame_ends import Status

PYTHON = os.environ.get("QWEN_TTS_PYTHON", "")
LIMIT_S = 1_200  # the published package takes its time on a busy machine

pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="QWEN_TTS_PYTHON names no interpreter with qwen-tts"),
    pytest.mark.timeout(LIMIT_S),
]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """The published package's codes of every case, from one process."""
    folder = tmp_path_factory.mktemp("published")
    models = {}
    for case in cases():
        if case.model not in models:
            data, _, talker = model(case)
            models[case.model] = {"config": data, "state": talker.state_dict()}
    torch.save({"models": models, "cases": [job(case) for case in cases()]}, folder / "jobs.pt")
    runner = Path(__file__).parent / "official.py"
    ran = subprocess.run(
        [PYTHON, str(runner), str(folder)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    with np.load(folder / "codes.npz") as codes:
        return dict(codes)


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_codes_are_those_of_the_published_package(case: Case, published: Mapping[str, Any]) -> None:
    _, config, talker = model(case)
    bench = Bench.build(config, talker)
    codes, status = alone(bench, case.speaking, case.options, torch_draw(case.options))
    expected = published[case.name]
    assert codes.shape == expected.shape
    assert np.array_equal(codes.numpy(), expected)
    assert (Status.ENDED in status) == case.must_end


def test_there_are_enough_cases() -> None:
    assert len({case.name for case in cases()}) >= 100
