"""Kernels without captures: the sizes that they are compiled for, and the codes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vivavoce.engines.qwen3.batch import Batch
from vivavoce.engines.qwen3.device import choose_place
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.engines.qwen3.prompt import PromptRequest
from vivavoce.engines.qwen3.rows import RowOptions
from vivavoce.runtime.kernels.dispatch import Kernels, chosen
from vivavoce.runtime.kernels.dispatch import Path as KernelPath
from vivavoce.runtime.nn.sampling import SamplerOptions

POSITIONS, FRAMES = 270, 3
DRAWN = RowOptions(seed=4, talker=SamplerOptions(top_p=0.8))


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Callable[[str], Path]) -> Model:
    folder = tiny_checkpoint("0.6B-CustomVoice")
    return Model.load(folder, choose_place(Qwen3Options(device="cpu")))


def spoken(batch: Batch) -> list[list[list[int]]]:
    """Codes of a short and a long row that begin one after the other."""
    codes = []
    for row, tokens in enumerate((5, 250, 7)):
        words = PromptRequest([31 + n % 500 for n in range(tokens)], "english", "ryan", whole=True)
        batch.begin(row, words, DRAWN)
        frame = batch.frame(row + 1)
        assert len(frame.codes) == len(frame.status) == row + 1
        codes.append(frame.codes.tolist())
    return codes + [batch.frame(3).codes.tolist() for _ in range(FRAMES)]


def test_no_call_waits_for_a_compiler(model: Model) -> None:
    """Where rows stand is asked on the device: a row that grows longer needs no other kernel."""
    plain = chosen(torch.device("cpu"), torch.float32)
    sizes: set[tuple[int, ...]] = set()

    def attend(qkv: torch.Tensor, heads: Any, rope: Any, cache: Any) -> Any:
        sizes.add((*qkv.shape[:2], cache.keys.shape[2]))
        return plain.attend(qkv, heads, rope, cache)

    kernels: Kernels = replace(plain, path=KernelPath.TRITON, attend=attend)
    batch = Batch(model, 3, POSITIONS, kernels=kernels)
    compiled = set(sizes)
    found = spoken(batch)
    assert sizes == compiled
    assert {steps for _, steps, stored in sizes if stored == POSITIONS} == {1}
    np.testing.assert_equal(found, spoken(Batch(model, 3, POSITIONS)))


def test_a_size_that_fails_leaves_frames_to_the_modules(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    plain = chosen(torch.device("cpu"), torch.float32)

    def few(x: torch.Tensor, *rest: Any, **how: Any) -> Any:
        if len(x) == 32:  # two tokens of each of sixteen rows, which are of the kind of twelve
            raise OSError("no compiler")
        return plain.linear(x, *rest, **how)

    with caplog.at_level(logging.WARNING):
        batch = Batch(model, 16, 64, kernels=replace(plain, path=KernelPath.TRITON, linear=few))
    assert "no compiler" in caplog.text and batch.kernels() == "torch (they failed)"
    batch.begin(0, PromptRequest([31, 7], "english", "ryan"), DRAWN)
    assert batch.frame(1).codes.any()
