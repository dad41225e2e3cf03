"""What captured stages are said to take, and how prompts are read that no bucket holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vivavoce.engines.capture.api import Work
from vivavoce.engines.capture.recording import RecordingGraphs
from vivavoce.engines.qwen3.batch import Batch, _pieces
from vivavoce.engines.qwen3.captured import CapturedParts
from vivavoce.engines.qwen3.capturing import Capturing
from vivavoce.engines.qwen3.device import choose_place
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.errors import InputError

POSITIONS = 300
LENGTHS = (16, 32, 64, 128)


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Callable[[str], Path]) -> Model:
    place = choose_place(Qwen3Options(device="cpu", threads=1))
    return Model.load(tiny_checkpoint("0.6B-CustomVoice"), place)


@pytest.fixture(scope="module")
def captured(model: Model) -> Iterator[Batch]:
    batch = Batch(model, 1, POSITIONS, Capturing(RecordingGraphs()))
    yield batch
    batch.close()


def parts_of(batch: Batch) -> CapturedParts:
    assert batch._captured is not None
    return batch._captured


@pytest.mark.parametrize("slowest", [128, 32])
def test_a_prompt_costs_what_the_slowest_bucket_does(
    slowest: int, captured: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever that is: a step may read any of them."""
    parts = parts_of(captured)
    read: list[int] = []
    prompts = parts.prompts.captures

    def run(key: int, work: Work) -> None:
        read.append(key)

    def timed_ms(work: Work) -> float:
        before = len(read)
        work()
        return 1.0 if len(read) == before else 90.0 if read[-1] == slowest else 7.0

    monkeypatch.setattr(prompts, "run", run)
    monkeypatch.setattr(parts, "_timed_ms", timed_ms)
    costs = captured.costs()
    assert costs is not None and costs.prefill_ms == 90.0
    assert sorted(read) == sorted(prompts.keys) == [*LENGTHS]
    assert costs.chunk_ms == 1.0 and set(costs.frame_ms.values()) == {1.0}


def test_buckets_that_failed_are_timed_too(
    captured: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = parts_of(captured)
    monkeypatch.setattr(parts.prompts.captures, "_replays", {})
    costs = captured.costs()
    assert costs is not None and costs.prefill_ms > 0
    assert parts.prompts.lengths == LENGTHS


def test_frames_are_timed_with_rows_that_have_all_they_can(captured: Batch) -> None:
    """Attention reads of a row what it has: of idle rows it would cost nothing."""
    parts, state = parts_of(captured), captured._rows.state
    seen: list[bool] = []
    usual = parts.frames.run

    def run(width: int, **how: Any) -> None:
        seen.append(bool(state.active[:width].all() and (state.positions == POSITIONS - 1).all()))
        usual(width, **how)

    parts.frames.run = run  # type: ignore[method-assign]
    try:
        captured.costs()
    finally:
        del parts.frames.run
    assert seen and all(seen)
    assert not state.active.any() and not state.codes.any() and not state.frames.any()


def prompt_of(model: Model, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randn(length, model.config.talker.hidden_size, generator=generator)


@pytest.mark.parametrize(
    ("start", "length", "runs"), [(0, 128, 1), (0, 129, 2), (0, 299, 3), (20, 270, 3)]
)
@torch.no_grad()
def test_a_long_prompt_is_read_in_captured_pieces(
    model: Model, captured: Batch, start: int, length: int, runs: int
) -> None:
    """As if it were read whole, behind what is there."""
    plain, counts = Batch(model, 1, POSITIONS), parts_of(captured).prompts.captures.counts
    prompt, before = prompt_of(model, start + length), (counts.replayed, counts.eager)
    if start:
        captured._prefill(0, prompt[:start])
        before = (before[0] + 1, before[1])
    found = captured._prefill(0, prompt[start:], start)
    assert (counts.replayed, counts.eager) == (before[0] + runs, before[1])
    assert torch.allclose(found, plain._prefill(0, prompt), atol=1e-4)
    kept, wanted = (each._rows.keep(0, start + length) for each in (captured, plain))
    assert torch.allclose(kept.keys, wanted.keys, atol=1e-4)
    assert torch.allclose(kept.values, wanted.values, atol=1e-4)


@torch.no_grad()
def test_a_prompt_longer_than_a_row_is_refused(model: Model, captured: Batch) -> None:
    with pytest.raises(InputError, match="301 positions"):
        captured._prefill(0, prompt_of(model, 301))


@given(st.integers(1, 5000), st.sampled_from((16, 64, 512)))
def test_pieces_cover_a_prompt_and_no_more(length: int, longest: int) -> None:
    read = [(at, min(length, at + longest)) for at in _pieces(length, longest)]
    assert read[0][0] == 0 and read[-1][1] == length
    assert all(after <= end for (_, end), (after, _) in pairwise(read))
    assert len(read) == -(-length // longest)
    assert len(read) == 1 or {end - at for at, end in read} == {longest}
