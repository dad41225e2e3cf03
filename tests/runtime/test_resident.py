"""A resident worker's fault costs the request that it had, and the next one finds another."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

from runtime.test_worker import BOUNDS, DEADLY, MODULE, PATIENCE_S
from vivavoce.errors import SetupError, WorkerDied
from vivavoce.runtime.resident import ResidentWorker
from vivavoce.runtime.worker_child import Bounds


@contextmanager
def resident(bounds: Bounds = BOUNDS, module: str = MODULE) -> Iterator[ResidentWorker]:
    worker = ResidentWorker(module, bounds)
    try:
        yield worker
    finally:
        worker.close()


def test_a_resident_worker_starts_once_and_serves_many() -> None:
    with resident() as worker:
        worker.start()
        for size in (0, 1, 3_000_000):
            request = b"x" + bytes(size)
            assert worker.ask(request) == request
        assert worker.started == 1


@DEADLY
def test_a_resident_worker_that_dies_costs_its_request_and_is_replaced(
    request_: bytes, reason: str
) -> None:
    with resident(replace(BOUNDS, cpu_s=0, wall_s=1)) as worker:
        assert worker.ask(b"before") == b"before"
        with pytest.raises(WorkerDied, match=reason):
            worker.ask(request_)
        assert worker.ask(b"after") == b"after"
        assert worker.started == 2


def test_a_resident_worker_is_replaced_after_an_answer_beyond_its_bound() -> None:
    with resident(replace(BOUNDS, answer_bytes=1_000)) as worker:
        with pytest.raises(WorkerDied):
            worker.ask(b"long")
        assert worker.ask(b"short") == b"short"


def test_a_resident_worker_that_was_killed_while_idle_is_not_missed() -> None:
    with resident() as worker:
        assert worker.ask(b"a") == b"a"
        assert worker._process is not None
        worker._process.kill()
        worker._process.wait(PATIENCE_S)
        assert worker.ask(b"b") == b"b"


def test_the_end_does_not_wait_for_a_resident_worker_that_hangs() -> None:
    with resident() as worker, ThreadPoolExecutor(1) as thread:
        asked = thread.submit(worker.ask, b"hang")
        while not worker._lock.locked():
            time.sleep(0.001)
        worker.close()
        with pytest.raises(WorkerDied):
            asked.result(PATIENCE_S)


def test_a_resident_worker_that_cannot_start_says_so() -> None:
    with (
        resident(module="runtime.no_such_child") as worker,
        pytest.raises(SetupError, match="no_such_child"),
    ):
        worker.ask(b"")


def test_a_resident_worker_answers_threads_in_turn() -> None:
    with resident() as worker, ThreadPoolExecutor(8) as threads:
        requests = [b"%d" % number for number in range(200)]
        assert list(threads.map(worker.ask, requests)) == requests
