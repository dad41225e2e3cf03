"""One request's speech as an async iterator of chunks, with its deadline and its watch.

Three things end it early: the consumer closes it, REQUEST_TIMEOUT passes, or the consumer does
not come back for the next chunk within the stall limit. All three free the engine's slot at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vivavoce.audio.pcm import concatenate, empty, from_int16, to_int16
from vivavoce.audio.stretch import TimeStretch
from vivavoce.engines.clock import PlaybackClock
from vivavoce.errors import (
    Busy,
    DeadlineExceeded,
    InputError,
    SlowConsumer,
    Unavailable,
    VivavoceError,
)
from vivavoce.speech.observer import Outcome, SpeechObserver
from vivavoce.speech.pipeline import ClausePipeline, Piece
from vivavoce.types import AudioChunk, Samples, Timings, Voice

if TYPE_CHECKING:
    from vivavoce.audio.pcm import Int16Samples

MAX_KEPT_BYTES = 4 * 1024 * 1024
"""Speech that is longer as int16 is not kept for the cache: what one stream holds is bounded."""

MAX_HELD_BYTES = 4 * 1024 * 1024
"""A clause that is longer as float32 does not wait until it is whole, but leaves in parts."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Seconds a whole request may take, and a consumer may stay away."""

    request_timeout_s: float = 300.0
    stall_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Source:
    """Where a stream's sound comes from: pieces of the pipeline, or one remembered sound."""

    pieces: AsyncIterator[Piece]
    finish: Callable[[], Samples]
    close: Callable[[], None]
    sample_rate_hz: int


def pipeline_source(
    pipeline: ClausePipeline, finish: Callable[[], Samples], sample_rate_hz: int
) -> Source:
    """Sound that is being made."""
    return Source(pipeline, finish, pipeline.close, sample_rate_hz)


def cached_source(pcm: Int16Samples, sample_rate_hz: int) -> Source:
    """Sound that was made before, int16 (n,), in pieces of a second."""
    return Source(_Slices(pcm, sample_rate_hz), empty, _nothing, sample_rate_hz)


class _Slices:
    def __init__(self, pcm: Int16Samples, length: int) -> None:
        self._starts = iter(range(0, len(pcm), length))
        self._pcm, self._length = pcm, length

    def __aiter__(self) -> _Slices:
        return self

    async def __anext__(self) -> Piece:
        for start in self._starts:
            samples = from_int16(self._pcm[start : start + self._length])
            return Piece(samples, 0, clause_ended=False)
        raise StopAsyncIteration


def _nothing() -> None:
    pass


def outcome_of(error: VivavoceError) -> Outcome:
    """How a request is counted that ended with an error."""
    match error:
        case InputError():
            return "invalid"
        case DeadlineExceeded():
            return "deadline"
        case Busy() | Unavailable():
            return "rejected"
        case SlowConsumer():
            return "backpressure"
    return "engine_error"


class SpeechStream:
    """Yields ``AudioChunk``; the final one has ``last`` set (it may be empty).

    ``began_s`` (monotonic) is when the request arrived; its deadline counts from there. ``voice``
    is None for a recording that is cloned for this request. ``ignored`` names the request's fields
    that the engine has no use for. ``outcome`` is set when it ends. Open it through
    ``SpeechService.open``, which closes it.
    """

    def __init__(
        self,
        source: Source,
        timings: Timings,
        limits: StreamLimits,
        observer: SpeechObserver,
        stretch: TimeStretch | None = None,
    ) -> None:
        self.timings = timings
        self.sample_rate_hz = source.sample_rate_hz
        self.ignored: tuple[str, ...] = ()
        self.outcome: Outcome | None = None
        self.voice: Voice | None = None
        self.by_clause = False
        self._source = source
        self._limits = limits
        self._observer = observer
        self._stretch = stretch
        self.began_s = time.monotonic()
        self._last_chunk_s: float | None = None
        self._clock = PlaybackClock()
        self._remember: Callable[[Int16Samples], None] | None = None
        self._kept: list[Int16Samples] = []
        self._kept_bytes = self._max_kept_bytes = 0
        self._held: list[Samples] = []
        self._held_bytes = 0
        self._error: VivavoceError | None = None
        self._stall: asyncio.TimerHandle | None = None

    def __aiter__(self) -> SpeechStream:
        return self

    async def __anext__(self) -> AudioChunk:
        """The next chunk. Raises DeadlineExceeded, SlowConsumer and the engine's errors."""
        self._unwatch()
        if self._error is not None:
            raise self._error
        if self.outcome is not None:
            raise StopAsyncIteration
        try:
            async with asyncio.timeout_at(self._deadline()):
                chunk = await self._next_chunk()
        except TimeoutError:
            timeout_s = self._limits.request_timeout_s
            error = DeadlineExceeded(f"Not finished within {timeout_s:g} s.")
            raise self._fail(error, "deadline") from None
        except VivavoceError as error:
            raise self._fail(error, outcome_of(error)) from None
        self._account(chunk)
        self._watch()
        return chunk

    def remember(self, put: Callable[[Int16Samples], None], max_bytes: int) -> None:
        """Give all of the sound to ``put``, int16 (n,), once it was spoken whole.

        Not where it has more than ``max_bytes`` or ``MAX_KEPT_BYTES``.
        """
        self._remember = put
        self._max_kept_bytes = min(max_bytes, MAX_KEPT_BYTES)

    def taken(self) -> None:
        """The consumer has taken some of the chunk it got: its time to stall begins anew."""
        if self._stall is not None:
            self._unwatch()
            self._watch()

    def give_up(self, error: VivavoceError) -> bool:
        """End it with an error, for a consumer who is about to be cancelled and closes it.

        False where it had ended.
        """
        if self.outcome is not None:
            return False
        self._error = error
        self._end(outcome_of(error))
        return True

    def close(self) -> None:
        """End it; frees the engine's slot. Idempotent."""
        self._unwatch()
        self._source.close()
        if self.outcome is None:
            self._end("cancelled")

    def _deadline(self) -> float:
        elapsed_s = time.monotonic() - self.began_s
        return asyncio.get_running_loop().time() + self._limits.request_timeout_s - elapsed_s

    async def _next_chunk(self) -> AudioChunk:
        async for piece in self._source.pieces:
            samples = self._stretched(piece.samples)
            if self.by_clause:
                self._held.append(samples)
                self._held_bytes += samples.nbytes
                if not piece.clause_ended and self._held_bytes <= MAX_HELD_BYTES:
                    continue
                samples = self._take_held()
            if len(samples):
                return AudioChunk(samples, self.sample_rate_hz, piece.clause)
        return self._last_chunk()

    def _last_chunk(self) -> AudioChunk:
        tail = [self._take_held(), self._stretched(self._source.finish())]
        if self._stretch is not None:
            tail.append(self._stretch.finish())
        samples = np.concatenate(tail)
        return AudioChunk(samples, self.sample_rate_hz, max(self.timings.clauses - 1, 0), last=True)

    def _take_held(self) -> Samples:
        held = concatenate(self._held)
        self._held = []
        self._held_bytes = 0
        return held

    def _stretched(self, samples: Samples) -> Samples:
        return samples if self._stretch is None else self._stretch.push(samples)

    def _account(self, chunk: AudioChunk) -> None:
        now_s = time.monotonic()
        if self._last_chunk_s is None:
            self.timings.first_audio_ms = (now_s - self.began_s) * 1000
            self._observer.first_audio(self.timings)
        else:
            self._observer.chunk_gap(now_s - self._last_chunk_s)
        self._last_chunk_s = now_s
        if self._clock.push(chunk.duration_s, now_s) > 0.0:
            self._observer.underrun()
        self.timings.audio_s += chunk.duration_s
        self._keep(chunk.samples)
        if chunk.last:
            self._complete()

    def _keep(self, samples: Samples) -> None:
        """Collect what was spoken, unless it is not wanted or grows too long."""
        if self._remember is None:
            return
        self._kept.append(to_int16(samples))
        self._kept_bytes += self._kept[-1].nbytes
        if self._kept_bytes > self._max_kept_bytes:
            self._forget()

    def _forget(self) -> None:
        self._remember = None
        self._kept = []

    def _complete(self) -> None:
        self._source.close()
        if self._remember is not None:
            self._remember(np.concatenate(self._kept))
        self._end("ok")

    def _fail(self, error: VivavoceError, outcome: Outcome) -> VivavoceError:
        self._error = error
        self._source.close()
        self._end(outcome)
        return error

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.timings.total_ms = (time.monotonic() - self.began_s) * 1000
        self._forget()
        self._held = []

    def _watch(self) -> None:
        if self.outcome is None:
            loop = asyncio.get_running_loop()
            self._stall = loop.call_later(self._limits.stall_timeout_s, self._stalled)

    def _unwatch(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _stalled(self) -> None:
        waited_s = self._limits.stall_timeout_s
        self._fail(SlowConsumer(f"Nothing was read for {waited_s:g} s."), "backpressure")
