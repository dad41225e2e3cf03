"""Units of work computed at once: ONNX Runtime lets go of the interpreter while it computes."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Result = TypeVar("Result")

WAIT_S = 0.004
"""How long a step waits for a lane before it lets the engine's thread look at its commands."""


class Lanes(Generic[Result]):
    """Up to ``count`` functions running at once, their results in the order they end.

    With one lane the function runs at once, in the caller's thread. A function must not raise.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, "vivavoce-piper") if count > 1 else None
        self._done: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._running = 0

    @property
    def free(self) -> int:
        """How many more functions can start now."""
        return self.count - self._running

    def start(self, function: Callable[[], Result]) -> None:
        """Run a function; only while ``free`` is above 0."""
        self._running += 1
        if self._pool is None:
            self._done.put(function())
        else:
            self._pool.submit(lambda: self._done.put(function()))

    def collect(self, wait_s: float = WAIT_S) -> list[Result]:
        """What has ended, waiting a little for the first; may be empty."""
        results: list[Result] = []
        while self._running:
            try:
                results.append(self._done.get(timeout=0.0 if results else wait_s))
            except queue.Empty:
                break
            self._running -= 1
        return results

    def close(self) -> None:
        """Wait for what runs, drop its results, end the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
