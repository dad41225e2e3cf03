"""At the published size our scores are those of the published package.

QWEN_TTS_PYTHON names an interpreter that has it (tests/interop/qwen_tts/test_parity.py says how to
make one). ``vivavoce bench recipe qwen3_exactness`` does the work, and keeps the figures of both
sizes.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from types import ModuleType
from typing import Any

import numpy as np
import pytest

PYTHON = os.environ.get("QWEN_TTS_PYTHON", "")
DISK_BYTES = 3_000_000_000
LIMIT_S = 1_200


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return importlib.import_module("vivavoce.bench.recipes.qwen3_exactness")


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.skipif(not PYTHON, reason="QWEN_TTS_PYTHON names no interpreter with qwen-tts")
def test_scores_at_true_size_are_those_of_the_published_package(script: Any) -> None:
    if shutil.disk_usage(tempfile.gettempdir()).free < DISK_BYTES:
        pytest.skip("the temporary folder has no room for a checkpoint of 2.5 GB")
    found = script.compare(script.Asked("Qwen3-TTS-12Hz-0.6B-CustomVoice"), PYTHON)
    for part in (found["talker"], found["code_predictor"]):
        assert part["min_cosine"] >= 0.99999
        assert part["top1_agreement"] == 1.0
    assert found["talker"]["compared"] == 16
    assert found["code_predictor"]["compared"] == 16 * 15


def scores(seed: int = 0) -> dict[str, Any]:
    drawn = np.random.default_rng(seed)
    return {
        "first": drawn.standard_normal((3, 64), np.float32),
        "rest": drawn.standard_normal((3, 15, 32), np.float32),
    }


def found(script: Any, part: str, change: np.ndarray) -> bool:
    """Whether scores that differ by ``change`` in one part agree."""
    other = scores()
    other[part] = other[part] + change
    return bool(script.agrees(script.differences(scores(), other)))


@pytest.mark.parametrize("part", ["first", "rest"])
def test_the_comparison_sees_one_score_that_is_off(script: Any, part: str) -> None:
    off = np.zeros_like(scores()[part])
    assert found(script, part, off)
    off[(2, *([1] * (off.ndim - 2)), 5)] = 0.1
    assert not found(script, part, off)


def test_the_comparison_sees_another_best_code(script: Any) -> None:
    close = scores()
    order = close["first"][1].argsort()
    close["first"][1, order[-2]] = close["first"][1, order[-1]] - 1e-6
    swap = np.zeros_like(close["first"])
    swap[1, order[-2]] = 2e-6
    other = {**close, "first": close["first"] + swap}
    compared = script.differences(close, other)["talker"]
    assert compared["min_cosine"] > 0.99999
    assert compared["top1_agreement"] == pytest.approx(2 / 3)


def test_scores_that_are_not_finite_are_an_error(script: Any) -> None:
    broken = scores()
    broken["rest"][0, 3, 7] = np.nan
    with pytest.raises(RuntimeError, match="finite"):
        script.differences(scores(), broken)
