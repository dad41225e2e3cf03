"""The two ends of a frame in the interpreter: what the plain path does to rows of every kind."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engines.qwen3.tiny import config_of, tiny_json
from vivavoce.engines.qwen3.agreement_of_ends import EXACT, mixed
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.runtime.kernels import frame_ends as plain
from vivavoce.runtime.kernels import frame_ends_triton as fused
from vivavoce.runtime.kernels.frame_ends import Status
from vivavoce.runtime.kernels.linear import Norm
from vivavoce.runtime.nn.weights import Precision, Weight, quantize

ROWS, TOKENS, BF16 = 29, 41, torch.bfloat16
CHANGED = (*EXACT, "hidden", "pending")


def rows_of(hidden: int, dtype: torch.dtype, groups: int = 16, kinds: int = 0) -> RowState:
    """Rows in all kinds of places, of an odd width or not."""
    config = config_of(tiny_json("custom_voice", groups=groups)).talker
    config = replace(config, hidden_size=hidden, vocab_size=1024 + 37)
    state = RowState.build(config, ROWS, 11, torch.zeros(1, dtype=dtype))
    return mixed(state, torch.arange(ROWS) + kinds, TOKENS)


def same(ours: RowState, theirs: RowState) -> None:
    """To the bit, but for what a norm's sum rounds."""
    for name in CHANGED:
        got, wanted = getattr(ours, name), getattr(theirs, name)
        if got.dtype.is_floating_point:
            tolerance = 2**-7 if got.dtype is BF16 else 1e-5
            torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance, msg=name)
        else:
            assert torch.equal(got, wanted), name


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
@pytest.mark.parametrize("size", [64, 300])
@pytest.mark.parametrize("precision", [Precision.NONE, Precision.INT8])
def test_the_next_text_of_every_row(dtype: torch.dtype, size: int, precision: Precision) -> None:
    rows = rows_of(32, dtype)
    assert (rows.cursor < rows.written).any() and (rows.cursor >= rows.written).any()
    assert (rows.cursor == rows.text.shape[1] - 1).any()
    table = torch.randn(TOKENS, size).to(dtype)
    weight = Weight(table) if precision is Precision.NONE else quantize(table, precision)
    for pad in (0, TOKENS - 1):
        assert torch.equal(fused.next_text(rows, weight, pad), plain.next_text(rows, weight, pad))


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
@pytest.mark.parametrize("hidden", [32, 70])
@pytest.mark.parametrize("step", [True, False])
def test_a_step_moves_the_same_rows(dtype: torch.dtype, hidden: int, step: bool) -> None:
    for kinds in (0, 3):
        ours, theirs = (rows_of(hidden, dtype, kinds=kinds) for _ in range(2))
        stepped = torch.randn(ROWS, hidden).to(dtype) if step else None
        if stepped is not None:
            stepped[5, 3] = torch.nan
        norm = Norm((1 + torch.randn(hidden) / 5).to(dtype), 1e-6)
        pair, other = (torch.zeros(ROWS, 2, hidden, dtype=dtype) for _ in range(2))
        got = fused.settle(ours, stepped, norm, pair)
        wanted = plain.settle(theirs, stepped, norm, other)
        same_but_for_nan(ours, theirs)
        for name in ("live", "failed", "no_end"):
            flags = getattr(wanted, name)
            assert torch.equal(getattr(got, name), flags), name
            assert flags.any() and not flags.all(), name
        torch.testing.assert_close(pair, other, equal_nan=True, rtol=2**-7, atol=2**-7)
        assert not pair[:, 1].any()


def same_but_for_nan(ours: RowState, theirs: RowState) -> None:
    """What is not finite is so in both; everything else as ``same`` has it."""
    finite = theirs.hidden.isfinite()
    assert torch.equal(ours.hidden.isfinite(), finite)
    given = [replace(each, hidden=each.hidden.where(finite, 0)) for each in (ours, theirs)]
    same(*given)


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
@pytest.mark.parametrize(("hidden", "groups"), [(32, 16), (300, 5)])
def test_codes_change_the_same(dtype: torch.dtype, hidden: int, groups: int) -> None:
    """Rows that emit, end, reach their limit, wait, fail and are idle, beside each other."""
    first = torch.randn(1024 + 37, hidden).to(dtype)
    others = torch.randn(groups - 1, 30, hidden).to(dtype)
    seen = Status(0)
    for kinds in (0, 4):
        ours, theirs = (rows_of(hidden, dtype, groups, kinds) for _ in range(2))
        turn = plain.settle(theirs, None)
        fused.settle(ours, None, None)
        turn = replace(turn, live=turn.live | (torch.arange(ROWS) % 5 == 1))
        codes = torch.randint(0, 30, (ROWS, groups))
        codes[::4, 0] = 7
        fused.sum_and_finish(ours, turn, codes, 7, first, others)
        plain.sum_and_finish(theirs, turn, codes, 7, first, others)
        same_but_for_nan(ours, theirs)
        for bits in theirs.status.tolist():
            seen |= Status(bits)
    assert seen == ~Status(0)
