"""Units of work in threads of their own, while the thread that starts them goes on.

The libraries that compute let go of the interpreter, so that threads use several cores.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Done(Generic[Job, Result]):
    """A job that has ended: its result or its error, and how long it took."""

    job: Job
    result: Result | None
    error: Exception | None
    spent_s: float


class WorkerPool(Generic[Job, Result]):
    """Runs ``work`` on up to ``count`` jobs at once; they are collected in the order they end.

    With ``inline`` a job runs at once, in the caller's thread.
    """

    def __init__(
        self, work: Callable[[Job], Result], name: str, count: int = 1, *, inline: bool = False
    ) -> None:
        self.count = count
        self._work = work
        self._threads = None if inline else ThreadPoolExecutor(count, name)
        self._done: queue.SimpleQueue[Done[Job, Result]] = queue.SimpleQueue()
        self._running = 0

    @property
    def free(self) -> int:
        """How many more jobs can start now."""
        return self.count - self._running

    def start(self, job: Job) -> None:
        """Start a job; only while ``free`` is above 0."""
        self._running += 1
        if self._threads is None:
            self._run(job)
        else:
            self._threads.submit(self._run, job)

    def collect(self, wait_s: float = 0.0) -> list[Done[Job, Result]]:
        """What has ended, waiting up to ``wait_s`` for the first; may be empty."""
        found: list[Done[Job, Result]] = []
        while self._running:
            try:
                done = self._done.get(timeout=wait_s) if not found else self._done.get_nowait()
            except queue.Empty:
                break
            self._running -= 1
            found.append(done)
        return found

    def close(self) -> None:
        """Wait for what runs, drop its results, end the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=True)
        self._done = queue.SimpleQueue()
        self._running = 0

    def _run(self, job: Job) -> None:
        began_s = time.perf_counter()
        try:
            result = self._work(job)
        except Exception as error:  # noqa: BLE001 - whoever collects it decides what follows
            self._done.put(Done(job, None, error, time.perf_counter() - began_s))
        else:
            self._done.put(Done(job, result, None, time.perf_counter() - began_s))
