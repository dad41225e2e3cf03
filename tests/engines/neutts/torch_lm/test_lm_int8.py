"""Weights in 8 bits: how far they are off, and that every way of multiplying them agrees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from engines.neutts.torch_lm.speaking import NAMES, Bare, loaded, prompt_ids
from vivavoce.engines.neutts.torch_lm.int8 import Int8Linear, quantise, relative_error

TinyLm = Callable[..., Path]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_weight_is_within_half_a_level(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = (torch.randn(30, 64) * torch.logspace(-3, 2, 30)[:, None]).to(dtype)
    weight[4] = 0
    levels, scale = quantise(weight)
    assert levels.dtype == torch.int8 and scale.dtype == dtype
    error = (levels.float() * scale.float()[:, None] - weight.float()).abs()
    # The largest may lie a little over the last level, where the scale was rounded down.
    assert (error <= 0.5 * scale.float()[:, None] + 0.004 * weight.float().abs()).all()
    assert not levels[4].any()


@pytest.mark.parametrize("rows", [1, 5, 16, 17])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [True, False])
def test_multiplying_is_as_with_the_wide_weight(
    dtype: torch.dtype, rows: int, biased: bool
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(96, 64).to(dtype)
    bias = torch.randn(96).to(dtype) if biased else None
    layer = Int8Linear.of(weight, bias)
    x = torch.randn(rows, 1, 64).to(dtype)
    wide = layer.weight.double() * layer.scale.double()[:, None]
    expected = functional.linear(x.double(), wide, None if bias is None else bias.double())
    near = {torch.float32: 1e-4, torch.bfloat16: 0.15}[dtype]
    torch.testing.assert_close(layer(x).double(), expected, rtol=0.02, atol=near)
    assert layer(x).dtype == dtype


def test_the_error_that_is_told() -> None:
    weight = torch.randn(64, 512, generator=torch.Generator().manual_seed(1))
    assert 0.003 < relative_error(weight, Int8Linear.of(weight)) < 0.012
    assert relative_error(torch.zeros(2, 2), Int8Linear.of(torch.zeros(2, 2))) == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_scores_stay_near(tiny_lm: TinyLm, name: str, dtype: torch.dtype) -> None:
    folder = tiny_lm(name)
    exact, small = Bare.of(folder), Bare.of(folder, int8=True, dtype=dtype)
    ids = prompt_ids(exact.vocabulary)
    near = torch.cosine_similarity(exact.scores(ids), small.scores(ids), 0)
    assert 0.995 < float(near) < 1.0


def test_a_backbone_tells_its_error_and_is_smaller(tiny_lm: TinyLm) -> None:
    folder = tiny_lm("neutts-2e", dtype="BF16")
    wide, small = (loaded(folder, dtype="bfloat16", int8=int8) for int8 in (False, True))
    assert wide.details["int8_error"] == 0.0
    assert 0.003 < small.details["int8_error"] < 0.02
    assert small.details["weights_bytes"] < wide.details["weights_bytes"]
