"""What captured stages take, prompts that are read in pieces, and which chunks decode together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.engines.qwen3.batch import Batch
from vivavoce.engines.qwen3.device import choose_place
from vivavoce.engines.qwen3.frame_runner import Codes, GraphRunner
from vivavoce.engines.qwen3.graphs import Capturing
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.engines.qwen3.pace import (
    RAMP,
    ChunkRamp,
    by_size,
    captured_length,
    sound_buckets,
    split,
)
from vivavoce.engines.qwen3.prefill import PIECE, pieces_of
from vivavoce.engines.qwen3.prompt import PromptRequest, embed, plan
from vivavoce.engines.qwen3.rows import RowOptions
from vivavoce.errors import InputError
from vivavoce.runtime.graphs.api import Work, bucket_over
from vivavoce.runtime.nn.sampling import SamplerOptions
from vivavoce.testing.recorded_graphs import RecordingGraphs

POSITIONS = 300
LENGTHS = (16, 32, 64)


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Callable[[str], Path]) -> Model:
    place = choose_place(Qwen3Options(device="cpu", threads=1))
    return Model.load(tiny_checkpoint("0.6B-CustomVoice"), place)


@pytest.fixture(scope="module")
def captured(model: Model) -> Iterator[Batch]:
    batch = Batch(model, 1, POSITIONS, Capturing(RecordingGraphs()))
    yield batch
    batch.close()


@pytest.fixture
def fresh(model: Model) -> Iterator[Batch]:
    """Costs are measured before anybody has spoken."""
    batch = Batch(model, 1, POSITIONS, Capturing(RecordingGraphs()))
    yield batch
    batch.close()


def parts_of(batch: Batch) -> GraphRunner:
    assert isinstance(batch._runner, GraphRunner)
    return batch._runner


@pytest.mark.parametrize("slowest", [64, 32])
def test_a_piece_costs_what_the_slowest_bucket_does(
    slowest: int, fresh: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever that is: a step may read any of them."""
    parts = parts_of(fresh)
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
    costs = fresh.costs()
    assert costs is not None and costs.prefill_ms == 90.0
    assert sorted(read) == sorted(prompts.keys) == [*LENGTHS]
    assert costs.chunk_ms == 1.0 and set(costs.frame_ms.values()) == {1.0}


def test_buckets_that_failed_are_timed_too(fresh: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = parts_of(fresh)
    monkeypatch.setattr(parts.prompts.captures, "_replays", {})
    costs = fresh.costs()
    assert costs is not None and costs.prefill_ms > 0
    assert parts.prompts.lengths == LENGTHS


def test_frames_are_timed_with_rows_that_have_all_they_can(fresh: Batch) -> None:
    """Attention reads of a row what it has: of idle rows it would cost nothing."""
    parts, state = parts_of(fresh), fresh._rows.state
    seen: list[bool] = []
    usual = parts.frames.run

    def run(width: int, **how: Any) -> None:
        seen.append(bool(state.active[:width].all() and (state.positions == POSITIONS - 1).all()))
        usual(width, **how)

    parts.frames.run = run  # type: ignore[method-assign]
    try:
        fresh.costs()
    finally:
        del parts.frames.run
    assert seen and all(seen)
    assert not state.active.any() and not state.codes.any() and not state.frames.any()


EDGES = sorted({edge + by for edge in (*LENGTHS, 128, 192) for by in (-1, 0, 1)} - {0, 1, 2, 3})
GREEDY = RowOptions(
    talker=SamplerOptions(greedy=True), codes=SamplerOptions(greedy=True), max_frames=4
)
DRAWN = RowOptions(seed=5, max_frames=4)


def codes_of(batch: Batch, words: PromptRequest, options: RowOptions) -> list[Codes]:
    batch.begin(0, words, options)
    made = [batch.frame(1).codes.copy() for _ in range(options.max_frames)]
    batch.release(0)
    return made


def unpieced(model: Model, words: PromptRequest, options: RowOptions) -> list[Codes]:
    """As ``codes_of``, of a prompt that is read at once."""
    speaking = words.inputs()
    laid = plan(model.config, speaking)
    batch = Batch(model, 1, POSITIONS)
    prompt = embed(model.talker, laid.rows, speaking)
    hidden = batch._rows.prefill(model.talker, 0, prompt)
    batch._rows.admit(0, hidden, len(laid.rows), laid.trailing, options)
    batch._began(0, len(laid.rows), options)
    return [batch.frame(1).codes.copy() for _ in range(options.max_frames)]


@pytest.fixture(scope="module")
def plain(model: Model) -> Batch:
    return Batch(model, 1, POSITIONS)


@pytest.mark.parametrize("length", [each for each in EDGES if each > 12])
def test_prompts_at_every_edge_give_the_codes_of_one_that_is_read_at_once(
    length: int, model: Model, captured: Batch, plain: Batch
) -> None:
    """The first time and the second, when what the voice's prompts begin with is there."""
    around = (
        len(plan(model.config, PromptRequest([5], "english", "ryan", whole=True).inputs()).rows) - 1
    )
    words = PromptRequest(
        [40 + n % 400 for n in range(length - around)], "english", "ryan", whole=True
    )
    assert len(plan(model.config, words.inputs()).rows) == length
    for options in (GREEDY, DRAWN):
        wanted = unpieced(model, words, options)
        for batch in (captured, plain, captured, plain):
            np.testing.assert_array_equal(codes_of(batch, words, options), wanted)


@pytest.mark.parametrize("length", [20, 64, 65, 130, 250])
def test_a_step_reads_one_piece(length: int, captured: Batch, model: Model) -> None:
    """None is longer than what steps are charged for, and none runs uncaptured."""
    counts = parts_of(captured).prompts.captures.counts
    captured.begin(
        0, PromptRequest([7], "english", "ryan"), GREEDY
    )  # the voice is known from now on
    captured.release(0)
    words = PromptRequest([40] * length, "english", "ryan", whole=True)
    fixed = plan(model.config, words.inputs()).prefix
    rest = len(plan(model.config, words.inputs()).rows) - fixed
    replayed, eager = counts.replayed, counts.eager
    beginning = captured.start(0, words, GREEDY)
    steps = 1
    while not beginning.advance():
        steps += 1
        assert counts.replayed == replayed + steps - 1
    captured.release(0)
    assert steps == -(-rest // PIECE) == counts.replayed - replayed
    assert counts.eager == eager


def test_a_voice_that_is_new_is_read_in_a_step_of_its_own(model: Model) -> None:
    batch = Batch(model, 1, POSITIONS)
    words = PromptRequest([40] * 10, "english", "ryan", whole=True)
    first, second = (batch.start(0, words, GREEDY) for _ in range(2))
    assert len(first.parts) == len(second.parts) == 2, "neither knows of the other"
    for beginning in (first, second):
        while not beginning.advance():
            pass
    assert len(batch.start(0, words, GREEDY).parts) == 1


def test_a_prompt_longer_than_a_row_is_refused_before_it_is_read(captured: Batch) -> None:
    with pytest.raises(InputError, match="positions; a row has 300"):
        captured.start(0, PromptRequest([40] * 300, "english", "ryan", whole=True), GREEDY)


@given(st.integers(0, 900), st.integers(1, 5000), st.sampled_from((16, 64, 512)))
def test_pieces_cover_a_prompt_and_no_more(start: int, length: int, longest: int) -> None:
    read = pieces_of(start, start + length, longest)
    assert read[0][0] == start and read[-1][1] == start + length
    assert all(after <= end for (_, end), (after, _) in pairwise(read))
    assert len(read) == -(-length // longest)
    assert len(read) == 1 or {end - at for at, end in read} == {longest}


def test_the_first_chunk_is_one_frame_and_the_ramp_ends_at_twelve() -> None:
    ramp, sizes, waiting = ChunkRamp(), [], 0
    for _ in range(60):
        waiting += 1
        if taken := ramp.take(waiting):
            sizes.append(taken)
            waiting -= taken
    assert sizes == [1, 2, 4, 8, 12, 12, 12]


def test_nothing_waiting_is_no_chunk() -> None:
    assert ChunkRamp().take(0) == 0
    assert ChunkRamp().take(0, flush=True) == 0


@given(st.lists(st.booleans(), max_size=80), st.sampled_from([RAMP, (1, 2, 2, 4)]))
def test_no_frame_is_lost_or_decoded_twice(flushes: list[bool], sizes: tuple[int, ...]) -> None:
    ramp, waiting, made = ChunkRamp(sizes), 0, 0
    for frames, flush in enumerate(flushes, 1):
        waiting += 1
        taken = ramp.take(waiting, flush=flush)
        assert taken <= waiting and taken <= max(sizes)
        assert taken in (0, *RAMP)  # what was captured
        assert not (flush and taken == 0)
        waiting -= taken
        made += taken
        assert made + waiting == frames


@given(st.integers(0, 30))
def test_what_is_left_at_the_end_goes_at_once(waiting: int) -> None:
    for stalled in (False, True):
        assert ChunkRamp().take(waiting, flush=stalled, last=True) == min(waiting, max(RAMP))


@given(st.dictionaries(st.integers(0, 15), st.integers(0, 12)))
def test_rows_with_equal_chunks_decode_together(due: dict[int, int]) -> None:
    calls = by_size(due)
    assert sorted(row for rows in calls for row in rows) == sorted(row for row in due if due[row])
    assert [len({due[row] for row in rows}) for rows in calls] == [1] * len(calls)
    assert len(calls) == len(set(due.values()) - {0})
    assert all(list(rows) == sorted(rows) for rows in calls)


@given(st.dictionaries(st.integers(0, 63), st.integers(0, 12)), st.sampled_from([4, 16, 37, 64]))
def test_captured_chunks_fill_at_least_half_of_what_runs(due: dict[int, int], most: int) -> None:
    due = {row: frames for row, frames in due.items() if row < most}
    calls = by_size(due, most)
    assert sorted(row for rows in calls for row in rows) == sorted(row for row in due if due[row])
    for rows in calls:
        (length,) = {captured_length(due[row]) for row in rows}
        held = bucket_over(len(rows), sound_buckets(length, most))
        assert held is not None and held <= 2 * len(rows)


@pytest.mark.parametrize(
    ("rows", "calls"),
    [
        (1, [(1, 1)]),
        (2, [(2, 4)]),
        (5, [(4, 4), (1, 1)]),
        (7, [(4, 4), (3, 4)]),
        (8, [(8, 16)]),
        (17, [(16, 16), (1, 1)]),
        (40, [(40, 64)]),
    ],
)
def test_rows_that_would_fill_little_are_split(rows: int, calls: list[tuple[int, int]]) -> None:
    assert split(rows, 4, 64) == calls


@pytest.mark.parametrize(("rows", "captures"), [(1, 5), (4, 11), (16, 17), (64, 23)])
def test_few_sizes_hold_every_chunk(rows: int, captures: int) -> None:
    assert sum(len(sound_buckets(frames, rows)) for frames in RAMP) == captures
    for frames in RAMP:
        buckets = sound_buckets(frames, rows)
        assert buckets[-1] == rows and list(buckets) == sorted(set(buckets))


@given(st.integers(1, 64), st.integers(1, 64))
def test_the_longest_chunks_compute_for_less_than_twice_their_rows(most: int, count: int) -> None:
    count = min(count, most)
    taken = min(each for each in sound_buckets(max(RAMP), most) if each >= count)
    assert taken < 2 * count
