"""The codec's thread: one window at a time, while the engine's own thread makes codes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Done(Generic[Job, Result]):
    """A job that has ended: its result or its error, and how long it took."""

    job: Job
    result: Result | None
    error: BaseException | None
    spent_s: float


class Lane(Generic[Job, Result]):
    """Runs ``work`` on one job at a time in a thread of its own."""

    def __init__(self, work: Callable[[Job], Result]) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(1, "vivavoce-codec")
        self._running: tuple[Job, Future[tuple[Result, float]]] | None = None

    @property
    def free(self) -> bool:
        """Whether a job can be started."""
        return self._running is None

    def start(self, job: Job) -> None:
        """Start a job; only while ``free``."""
        self._running = job, self._pool.submit(self._timed, job)

    def collect(self, wait_s: float = 0.0) -> Done[Job, Result] | None:
        """The job that has ended, waiting up to ``wait_s`` for it."""
        if self._running is None:
            return None
        job, future = self._running
        if not future.done() and not wait((future,), timeout=wait_s).done:
            return None
        self._running = None
        error = future.exception()
        if error is not None:
            return Done(job, None, error, 0.0)
        result, spent_s = future.result()
        return Done(job, result, None, spent_s)

    def close(self) -> None:
        """Wait for what runs, drop its result, end the thread."""
        self._pool.shutdown(wait=True)
        self._running = None

    def _timed(self, job: Job) -> tuple[Result, float]:
        began_s = time.perf_counter()
        return self._work(job), time.perf_counter() - began_s
