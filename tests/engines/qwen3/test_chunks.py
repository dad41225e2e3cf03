"""Frames per chunk: the ramp, and which rows decode together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.engines.qwen3.chunks import (
    RAMP,
    ChunkRamp,
    by_size,
    captured_length,
    sound_buckets,
    split,
)
from vivavoce.runtime.graphs.api import bucket_over


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
