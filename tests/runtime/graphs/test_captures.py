"""Buckets, captures with their plain way, and rings of host buffers."""

from __future__ import annotations

import gc
import logging
from weakref import ref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.runtime.graphs.api import BATCH_BUCKETS, Held, StaticTensors, bucket_over, buckets_to
from vivavoce.runtime.graphs.captures import Captures, Job
from vivavoce.runtime.graphs.transfer import Feed, HostRing, PendingCopy
from vivavoce.testing.recorded_graphs import RecordingGraphs


def test_buckets() -> None:
    assert buckets_to(10, BATCH_BUCKETS) == (1, 2, 4, 8, 10)
    assert buckets_to(16, BATCH_BUCKETS) == (1, 2, 4, 8, 12, 16)
    assert [bucket_over(n, (1, 2, 4)) for n in (1, 2, 3, 4, 5)] == [1, 2, 4, 4, None]


def counting(api: RecordingGraphs) -> tuple[Captures[int], torch.Tensor, list[Job[int]]]:
    x = torch.zeros(4)

    def job(rows: int) -> Job[int]:
        return Job(rows, rows, lambda: x[:rows].add_(1))

    return (
        Captures("count", api, StaticTensors().buffers((x,))),
        x,
        [job(rows) for rows in (1, 4, 2)],
    )


def test_the_largest_is_captured_first() -> None:
    api = RecordingGraphs()
    captures, x, jobs = counting(api)
    captures.warm(jobs)
    assert api.captured == ["count 4", "count 2", "count 1"]
    x.zero_()
    assert captures.run(2, jobs[2].work)
    assert x.tolist() == [1, 1, 0, 0]
    assert (captures.counts.captured, captures.counts.replayed) == (3, 1)
    captures.release()
    assert api.account.held == Held()
    assert not captures.run(2, jobs[2].work)


def test_what_fails_runs_eagerly_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    api = RecordingGraphs(refuses=lambda name: not name.endswith("1"))
    captures, x, jobs = counting(api)
    with caplog.at_level(logging.WARNING):
        captures.warm(jobs)
    assert len(caplog.records) == 1
    assert (captures.counts.captured, captures.counts.failed) == (1, 2)
    x.zero_()
    assert not captures.run(4, jobs[1].work)
    assert captures.run(1, jobs[0].work)
    assert x.tolist() == [2, 1, 1, 1]
    assert (captures.counts.eager, captures.counts.replayed) == (1, 1)


def test_a_capture_that_fails_takes_no_other_along() -> None:
    """Whoever shares its pool is captured after it, and what was captured before it still runs."""
    api = RecordingGraphs(refuses=lambda name: name in ("count 4", "count 1"))
    captures, x, jobs = counting(api)
    first = captures.pool
    captures.warm(jobs)
    more = Captures[int]("more", api, StaticTensors().buffers((x,)), captures.pool)
    more.warm(jobs)
    assert captures.pool is more.pool is first
    assert captures.keys == (2,) and more.keys == (4, 2, 1)
    assert (captures.counts.failed, more.counts.failed) == (2, 0)
    x.zero_()
    assert captures.run(2, jobs[2].work) and more.run(4, jobs[1].work)
    assert x.tolist() == [2, 2, 1, 1]


class OutOfMemoryError(RuntimeError):
    """Named like that of PyTorch."""


@pytest.mark.parametrize("warming", [True, False])
@pytest.mark.parametrize("fails", [1, 2])
def test_a_capture_without_memory_is_tried_once_more(
    fails: int, warming: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """In the warm-up or while it is recorded; what it held is gone when room is made."""
    held: list[ref[torch.Tensor]] = []
    runs = 0

    class Api(RecordingGraphs):
        def make_room(self) -> None:
            assert held and held[-1]() is None
            super().make_room()

    api, x = Api(), torch.zeros(4)
    captures = Captures[int]("count", api, StaticTensors().buffers((x,)))

    def work() -> None:
        nonlocal runs
        runs += 1
        made = torch.ones(2)
        held.append(ref(made))
        # A capture is a warm-up and a recording; one that fails in the former has no latter.
        failing = runs <= fails if warming else runs in range(2, 2 * fails + 1, 2)
        if failing:
            raise OutOfMemoryError("CUDA out of memory.")
        x[:2].add_(made)

    gc.disable()
    try:
        with caplog.at_level(logging.WARNING):
            captures.warm([Job(2, 2, work), Job(1, 1, lambda: x[:1].add_(1))])
    finally:
        gc.enable()
    assert api.rooms == 1
    assert captures.keys == ((2, 1) if fails == 1 else (1,))
    assert captures.counts.failed == fails - 1
    told = [record.getMessage() for record in caplog.records]
    assert "no memory on the device to capture count 2" in told[0]
    assert len(told) == fails and ("running without" in told[-1]) == (fails == 2)
    x.zero_()
    assert captures.run(2, work) == (fails == 1)
    assert x.tolist() == [1, 1, 0, 0]


def test_a_capture_that_fails_otherwise_is_not_tried_again() -> None:
    api = RecordingGraphs(refuses=lambda name: name.endswith("4"))
    captures, _, jobs = counting(api)
    captures.warm(jobs)
    assert api.rooms == 0 and captures.counts.failed == 1


def test_what_was_not_captured_runs_eagerly() -> None:
    captures, x, _ = counting(RecordingGraphs())
    assert not captures.run(3, lambda: x.add_(1))
    assert x.tolist() == [1] * 4


@pytest.mark.parametrize("eager", [False, True])
def test_a_copy_holds_what_was_there_when_it_was_sent(eager: bool) -> None:
    api, x = RecordingGraphs(eager=eager), torch.zeros(3)
    ring = HostRing(api, x, 6, 2, "copy")
    arrivals = []
    for number in (1.0, 2.0, 3.0):  # one more than there are slots
        x.fill_(number)
        arrivals.append(ring.send([x, x[:1]], api.main))
    assert ring.in_use == 3
    assert [arrival.take().tolist() for arrival in arrivals] == [[n] * 4 for n in (1, 2, 3)]
    assert ring.in_use == 0
    ring.close()
    assert api.account.held == Held()


def test_pageable_memory_does_as_well() -> None:
    api = RecordingGraphs(pins=False)
    ring = HostRing(api, torch.zeros(1), 2, 1, "copy")
    assert not ring.pinned
    assert ring.send([torch.ones(2)], api.main).take().tolist() == [1, 1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.booleans())
def test_no_slot_is_lost_and_no_copy_is_mixed_up(steps: list[int], eager: bool) -> None:
    """0 and 1 send, 2 takes the oldest, 3 drops the newest."""
    api, x = RecordingGraphs(eager=eager), torch.zeros(1)
    ring = HostRing(api, x, 1, 3, "copy")
    waiting: list[tuple[int, PendingCopy]] = []
    for number, step in enumerate(steps, 1):
        if step < 2:
            x.fill_(number)
            waiting.append((number, ring.send([x], api.main)))
        elif waiting and step == 2:
            sent, arrival = waiting.pop(0)
            assert arrival.take().item() == sent
        elif waiting:
            waiting.pop()[1].release()
        assert ring.in_use == len(waiting)
    for sent, arrival in waiting:
        assert arrival.take().item() == sent
    assert ring.in_use == 0


@pytest.mark.parametrize("eager", [False, True])
def test_what_is_fed_arrives_in_order_however_late(eager: bool) -> None:
    api = RecordingGraphs(eager=eager)
    stream, feed = api.stream("codec"), Feed(api, torch.int64, 4, 2)
    target = torch.zeros(2, 2, dtype=torch.int64)
    seen: list[int] = []
    for number in range(5):
        feed.put(torch.full((2, 2), number), target, stream)
        stream.run(lambda: seen.append(int(target.sum())))
    stream.synchronize()
    assert seen == [0, 4, 8, 12, 16]
    feed.close()
    assert api.account.held == Held()
