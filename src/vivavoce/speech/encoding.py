"""Encoding beside the event loop: a few threads, and each stream's pieces in order.

A codec's work would hold up everybody else whom the event loop serves. Each stream has at most one
piece in the threads, so that what waits there is bounded by the streams that were let in. Speech
that is remembered waits for no engine and could take any amount of time from those who are live:
it has one thread of its own, which goes last.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress

from vivavoce.audio.containers import Encoder
from vivavoce.types import Samples

MAX_THREADS = 4
BUSY_S = 0.01
LOW_PRIORITY = 10
"""Of the thread for remembered speech, as in ``nice``: on Linux, where threads have their own."""


def _go_last() -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)


_LIVE_THREADS = min(MAX_THREADS, max(2, (os.cpu_count() or 1) // 2))
_live = ThreadPoolExecutor(_LIVE_THREADS, "vivavoce-encode")
_remembered = ThreadPoolExecutor(1, "vivavoce-remembered", initializer=_go_last)


def threads_for(*, remembered: bool) -> Executor:
    """The threads that encode live speech, or remembered speech."""
    return _remembered if remembered else _live


def start_threads() -> None:
    """Begin all threads now, so that the first request need not. Blocks for a moment."""
    for threads, count in ((_live, _LIVE_THREADS), (_remembered, 1)):
        # A thread is begun for what comes while the others are busy.
        for begun in [threads.submit(time.sleep, BUSY_S) for _ in range(count)]:
            begun.result()


class ThreadedEncoder:
    """An encoder that is made, used and closed in threads: one call at a time, in order.

    ``close`` may come at any moment, also while a piece is being encoded: it returns at once, and
    what the codec holds is freed by a thread as soon as that piece is done.
    """

    def __init__(self, make: Callable[[], Encoder], threads: Executor) -> None:
        self._make = make
        self._threads = threads
        self._encoder: Encoder | None = None
        self._alone = threading.Lock()
        self._closed = False

    def push_here(self, samples: Samples) -> bytes:
        """``push`` in the calling thread; for what costs less than the way to another."""
        return self._push(samples)

    def finish_here(self) -> bytes:
        """``finish`` in the calling thread."""
        return self._finish()

    async def push(self, samples: Samples) -> bytes:
        """Bytes that can leave now; may be empty. Raises what making the encoder raises."""
        return await self._beside(self._push, samples)

    async def finish(self) -> bytes:
        """The rest."""
        return await self._beside(self._finish)

    def close(self) -> None:
        """Give it up. Idempotent; harmless after ``finish``."""
        self._closed = True
        if self._encoder is None and not self._alone.locked():
            return  # nothing is held, and what waits in the threads will find it closed
        try:
            self._threads.submit(self._close)
        except RuntimeError:  # the interpreter is ending, and its threads have
            self._close()

    async def _beside(self, work: Callable[..., bytes], *given: Samples) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    def _push(self, samples: Samples) -> bytes:
        with self._alone:
            return b"" if self._closed else self._opened().push(samples)

    def _finish(self) -> bytes:
        with self._alone:
            if self._closed:
                return b""
            rest = self._opened().finish()
            self._encoder = None
            return rest

    def _opened(self) -> Encoder:
        if self._encoder is None:
            self._encoder = self._make()
        return self._encoder

    def _close(self) -> None:
        with self._alone:
            encoder, self._encoder = self._encoder, None
            if encoder is not None:
                encoder.close()
