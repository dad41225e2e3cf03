"""One request's speech as an async iterator of chunks, with its deadline and its watch.

Three things end it early: the consumer closes it, REQUEST_TIMEOUT passes, or the consumer does
not come back for the next chunk within the stall limit. All three free the engine's slot at once.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vivavoce.audio.pcm import concatenate, empty, from_int16
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
from vivavoce.speech.cache import Keeping
from vivavoce.speech.observer import Outcome, SpeechObserver
from vivavoce.speech.pipeline import ClauseAudio
from vivavoce.speech.request import Prepared
from vivavoce.types import AudioChunk, Samples, WordTiming

if TYPE_CHECKING:
    from vivavoce.audio.pcm import Int16Samples

MAX_HELD_BYTES = 4 * 1024 * 1024
"""A clause that is longer as float32 does not wait until it is whole, but leaves in parts."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Seconds a whole request may take, and a consumer may stay away."""

    request_timeout_s: float = 300.0
    stall_timeout_s: float = 30.0


class Sound(Protocol):
    """Where a stream's sound comes from: a ``ClausePipeline``, or ``RememberedSound``.

    An async iterator whose final piece has ``last``; ``close`` gives back what it holds.
    """

    def __aiter__(self) -> Sound: ...

    async def __anext__(self) -> ClauseAudio: ...

    def close(self) -> None:
        """Stop it. Idempotent."""


class RememberedSound:
    """Sound that was made before, int16 (n,), in pieces of ``piece_samples``."""

    def __init__(self, pcm: Int16Samples, piece_samples: int) -> None:
        self._pcm, self._piece_samples = pcm, piece_samples
        self._starts = iter(range(0, len(pcm), piece_samples))

    def __aiter__(self) -> RememberedSound:
        return self

    async def __anext__(self) -> ClauseAudio:
        """The next piece; the last one is empty."""
        for start in self._starts:
            piece = self._pcm[start : start + self._piece_samples]
            return ClauseAudio(from_int16(piece), 0)
        return ClauseAudio(empty(), 0, clause_ended=True, last=True)

    def close(self) -> None:
        """It holds nothing."""


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

    ``ready`` is the request: its deadline counts from when it arrived. ``voice`` is None for a
    recording that is cloned for this request. ``ignored`` names the request's fields that the
    engine has no use for. ``outcome`` is set when it ends. What is spoken is given to ``keeping``,
    for the cache. Open it through ``SpeechService.open``, which closes it.
    """

    def __init__(
        self,
        ready: Prepared,
        sound: Sound,
        sample_rate_hz: int,
        limits: StreamLimits,
        observer: SpeechObserver,
        *,
        stretch: TimeStretch | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        self.timings = ready.timings
        self.sample_rate_hz = sample_rate_hz
        self.ignored = ready.ignored
        self.outcome: Outcome | None = None
        self.voice = ready.voice
        # Where a clause ends is not remembered, and nothing of it has to be waited for.
        self._by_clause = ready.request.stream_mode == "sentence" and not ready.timings.cached
        self._sound = sound
        self._limits = limits
        self._observer = observer
        self._stretch = stretch
        self._keeping = keeping
        self._began_s = ready.timings.arrived_s
        self._last_chunk_s: float | None = None
        self._clock = PlaybackClock()
        self._words: list[WordTiming] = []  # of the sound that is held
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
        self._sound.close()
        if self.outcome is None:
            self._end("cancelled")

    def _deadline(self) -> float:
        elapsed_s = time.monotonic() - self._began_s
        return asyncio.get_running_loop().time() + self._limits.request_timeout_s - elapsed_s

    async def _next_chunk(self) -> AudioChunk:
        while True:
            piece = await anext(self._sound)
            samples = piece.samples if self._stretch is None else self._stretch.push(piece.samples)
            if piece.words:
                place = None if self._stretch is None else self._stretch.place
                self._words += [each.mapped(place) if place else each for each in piece.words]
            if piece.last:
                return self._last_chunk(samples, piece.clause)
            if self._by_clause:
                self._held.append(samples)
                self._held_bytes += samples.nbytes
                if not piece.clause_ended and self._held_bytes <= MAX_HELD_BYTES:
                    continue
                samples = self._take_held()
            if len(samples):
                words = self._take_words()
                return AudioChunk(samples, self.sample_rate_hz, piece.clause, words=words)

    def _last_chunk(self, samples: Samples, clause: int) -> AudioChunk:
        tail = [self._take_held(), samples]
        if self._stretch is not None:
            tail.append(self._stretch.finish())
        whole, words = np.concatenate(tail), self._take_words()
        return AudioChunk(whole, self.sample_rate_hz, clause, last=True, words=words)

    def _take_held(self) -> Samples:
        held = concatenate(self._held)
        self._held = []
        self._held_bytes = 0
        return held

    def _take_words(self) -> tuple[WordTiming, ...]:
        if not self._words:
            return ()
        words, self._words = tuple(self._words), []
        return words

    def _account(self, chunk: AudioChunk) -> None:
        now_s = time.monotonic()
        if self._last_chunk_s is None:
            self.timings.first_audio_ms = (now_s - self._began_s) * 1000
            self._observer.first_audio(self.timings)
        else:
            self._observer.chunk_gap(now_s - self._last_chunk_s)
        self._last_chunk_s = now_s
        if self._clock.push(chunk.duration_s, now_s) > 0.0:
            self._observer.underrun()
        self.timings.audio_s += chunk.duration_s
        if self._keeping is not None:
            self._keeping.push(chunk.samples)
        if chunk.last:
            self._sound.close()
            if self._keeping is not None:
                self._keeping.keep()
            self._end("ok")

    def _fail(self, error: VivavoceError, outcome: Outcome) -> VivavoceError:
        self._error = error
        self._sound.close()
        self._end(outcome)
        return error

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.timings.total_ms = (time.monotonic() - self._began_s) * 1000
        self._keeping = None
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
