"""Jobs run beside the thread that starts them, and are collected as they end."""

from __future__ import annotations

import threading

from vivavoce.runtime.worker_pool import Done, WorkerPool

PATIENCE_S = 20.0


def test_as_many_run_at_once_as_there_are_workers() -> None:
    meeting = threading.Barrier(2, timeout=PATIENCE_S)
    pool = WorkerPool(lambda job: (meeting.wait(), job)[1], "test", 2)
    for job in (1, 2):
        assert pool.free
        pool.start(job)
    assert not pool.free
    ended: list[Done[int, int]] = []
    while len(ended) < 2:
        ended += pool.collect(PATIENCE_S)
    assert sorted((each.job, each.result) for each in ended) == [(1, 1), (2, 2)]
    assert pool.free == 2 and pool.collect() == []
    pool.close()


def test_what_is_not_over_is_not_waited_for() -> None:
    go = threading.Event()
    pool = WorkerPool(lambda _: go.wait(PATIENCE_S), "test")
    pool.start(1)
    assert pool.collect(0.001) == [] and not pool.free
    go.set()
    assert [each.result for each in pool.collect(PATIENCE_S)] == [True]
    pool.close()


def test_an_error_is_handed_out_with_its_job() -> None:
    pool = WorkerPool(lambda job: 1 // job, "test", inline=True)
    pool.start(0)
    (done,) = pool.collect()
    assert done.job == 0 and done.result is None and isinstance(done.error, ZeroDivisionError)


def test_inline_a_job_has_ended_when_it_was_started() -> None:
    threads: list[str] = []
    pool = WorkerPool(lambda _: threads.append(threading.current_thread().name), "x", inline=True)
    pool.start(1)
    assert threads == [threading.current_thread().name]
    assert len(pool.collect()) == 1
    pool.close()
