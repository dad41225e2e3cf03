"""What captured stages are said to take, and how prompts are read that no bucket holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

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
from vivavoce.engines.qwen3.graphs import PromptKey
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.errors import InputError

POSITIONS = 300
LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Callable[[str], Path]) -> Model:
    place = choose_place(Qwen3Options(device="cpu", threads=1))
    return Model.load(tiny_checkpoint("0.6B-CustomVoice"), place)


SLOWEST = [PromptKey(256, 300), PromptKey(32, 256)]


@pytest.fixture(scope="module")
def captured(model: Model) -> Iterator[Batch]:
    batch = Batch(model, 1, POSITIONS, Capturing(RecordingGraphs()))
    yield batch
    batch.close()


def parts_of(batch: Batch) -> CapturedParts:
    assert batch._captured is not None
    return batch._captured


@pytest.mark.parametrize("slowest", SLOWEST)
def test_a_prompt_costs_what_the_slowest_bucket_does(
    slowest: PromptKey, captured: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever that is: a step may read any of them."""
    parts = parts_of(captured)
    read: list[PromptKey] = []
    prompts = parts.prompts.captures

    def run(key: PromptKey, work: Work) -> None:
        read.append(key)

    def timed_ms(work: Work) -> float:
        before = len(read)
        work()
        return 1.0 if len(read) == before else 90.0 if read[-1] == slowest else 7.0

    monkeypatch.setattr(prompts, "run", run)
    monkeypatch.setattr(parts, "_timed_ms", timed_ms)
    costs = captured.costs()
    assert costs is not None and costs.prefill_ms == 90.0
    assert sorted(read) == sorted(prompts.keys) and {key.length for key in read} == {*LENGTHS}
    assert costs.chunk_ms == 1.0 and set(costs.frame_ms.values()) == {1.0}


def test_buckets_that_failed_are_timed_too(
    captured: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = parts_of(captured)
    monkeypatch.setattr(parts.prompts.captures, "_replays", {})
    assert {key.length for key in parts._prompts()} == {*LENGTHS}


def prompt_of(model: Model, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randn(length, model.config.talker.hidden_size, generator=generator)


@pytest.mark.parametrize(
    ("start", "length", "runs"), [(0, 256, 1), (0, 257, 2), (0, 299, 2), (20, 270, 2)]
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
