"""From a speech stream to bytes: one encoder a stream, codecs beside the event loop.

A codec's work would hold up everybody else whom the event loop serves. Each stream has at most one
piece in the threads, so that what waits there is bounded by the streams that were let in. Speech
that is remembered waits for no engine and could take any amount of time from those who are live:
it has one thread of its own, which goes last. Plain samples stay on the event loop, pieces that
are short as an engine makes them: resampling 80 ms takes 0.1 ms, less than the way to a thread and
back.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from vivavoce.audio.encode import Delivery
from vivavoce.audio.formats import Encoder, find_encoding
from vivavoce.speech.stream import SpeechStream
from vivavoce.types import AudioChunk, AudioFormat, Samples, WordTiming

PIECE_S = 0.25
"""Sound that is encoded at a time: a thread is nobody's for longer, and no piece of a body larger
than 64 kB. Longer chunks (a clause in one) are cut."""

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
    what the codec holds is freed by a thread as soon as that piece is done. ``emitted_samples`` is
    the encoder's, as of the last call that has returned.
    """

    def __init__(self, make: Callable[[], Encoder], threads: Executor) -> None:
        self._make = make
        self._threads = threads
        self._encoder: Encoder | None = None
        self._alone = threading.Lock()
        self._closed = False
        self.emitted_samples = 0

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
            if self._closed:
                return b""
            encoder = self._opened()
            data = encoder.push(samples)
            self.emitted_samples = encoder.emitted_samples
            return data

    def _finish(self) -> bytes:
        with self._alone:
            if self._closed:
                return b""
            encoder = self._opened()
            rest = encoder.finish()
            self.emitted_samples = encoder.emitted_samples
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


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    """Bytes of a stream, and the words whose sound has gone into them or into those before.

    ``emitted_samples`` is how much of the sound is in all bytes so far; it and the words' places
    count at the delivered rate.
    """

    data: bytes
    emitted_samples: int
    words: tuple[WordTiming, ...] = ()


async def encoded(
    chunks: AsyncIterator[AudioChunk], source_hz: int, target: AudioFormat
) -> AsyncGenerator[EncodedAudio, None]:
    """The encoded bytes of a stream, as they are made; no empty piece, unless words are left last.

    Whoever closes it, or is cancelled in it, waits for no codec. Raises InputError for an encoding
    or rate that cannot be, and what the stream raises.
    """
    stream = chunks if isinstance(chunks, SpeechStream) else None
    remembered = stream is not None and stream.timings.cached
    plain = not remembered and not find_encoding(target.encoding).compressed
    encoder = ThreadedEncoder(
        partial(Delivery, source_hz, target), threads_for(remembered=remembered)
    )
    size, ratio = round(PIECE_S * source_hz), target.sample_rate_hz / source_hz
    waiting: list[WordTiming] = []  # for the bytes that they sound in
    try:
        async for chunk in chunks:
            here = plain and len(chunk.samples) <= size
            if chunk.words:
                waiting += [word.mapped(lambda at: round(at * ratio)) for word in chunk.words]
            for samples in _cut(chunk.samples, size):
                data = encoder.push_here(samples) if here else await encoder.push(samples)
                if data:
                    emitted = encoder.emitted_samples
                    yield EncodedAudio(data, emitted, _taken_until(emitted, waiting))
                if stream is not None:
                    stream.taken()
        data = encoder.finish_here() if plain else await encoder.finish()
        if data or waiting:
            yield EncodedAudio(data, encoder.emitted_samples, tuple(waiting))
    finally:
        encoder.close()


def _cut(samples: Samples, size: int) -> Iterator[Samples]:
    """In pieces of at most ``size``, without copying."""
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def _taken_until(position: int, waiting: list[WordTiming]) -> tuple[WordTiming, ...]:
    """Take from ``waiting`` the words that have ended by ``position``."""
    if not waiting:
        return ()
    ended = tuple(word for word in waiting if word.end_sample <= position)
    waiting[:] = waiting[len(ended) :]
    return ended
