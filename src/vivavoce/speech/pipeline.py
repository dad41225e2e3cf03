"""From clauses to sound: in order, one clause ahead, joined without clicks.

A clause may be a group of sentences here, for engines that like them so (``text/group.py``).

While the sound of one clause is being consumed, the next is already in the engine; never more
than one ahead. The look-ahead is driven by the engine's own "finished", and by clauses that arrive,
not by a task, so that nothing is left running when a consumer goes away.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vivavoce.audio.join import Joiner
from vivavoce.engines.base import Produced
from vivavoce.engines.clock import PlaybackClock
from vivavoce.engines.stream import UtteranceStream
from vivavoce.errors import EngineError, RunawayOutput
from vivavoce.speech.clauses import ClauseSource
from vivavoce.types import Clause, Samples, Timings, Utterance, WordTiming

LOOK_AHEAD = 2
"""Clauses open at once: the one being delivered and the next."""

LOOK_AHEAD_BYTES = 2 * 1024 * 1024
"""While more sound than this waits, the next clause does too: 20 s at 24,000 Hz are ahead enough,
and what one stream holds is bounded."""

Open = Callable[[Utterance], UtteranceStream]
ToUtterance = Callable[[Clause, float], Utterance]


@dataclass(slots=True)
class _Opened:
    clause: Clause
    stream: UtteranceStream | None
    made: int = 0


@dataclass(frozen=True, slots=True)
class ClauseAudio:
    """Joined sound of one clause; ``clause_ended`` with its final piece, ``last`` with that of all.

    ``words`` are those whose sound has come, at their places in all of it.
    """

    samples: Samples
    clause: int
    clause_ended: bool = False
    last: bool = False
    words: tuple[WordTiming, ...] = ()


class ClausePipeline:
    """An async iterator of ``ClauseAudio``; ``close`` stops it and frees the engine's slot.

    ``clauses`` is consumed lazily. ``to_utterance(clause, deadline_s)`` says how to speak one.
    """

    def __init__(
        self,
        clauses: ClauseSource,
        to_utterance: ToUtterance,
        open_stream: Open,
        joiner: Joiner,
        sample_rate_hz: int,
        timings: Timings,
    ) -> None:
        self._clauses = clauses
        self._to_utterance = to_utterance
        self._open_stream = open_stream
        self._joiner = joiner
        self._sample_rate_hz = sample_rate_hz
        self._timings = timings
        self._ended = False
        self._opened: collections.deque[_Opened] = collections.deque()
        self._exhausted = False
        self._error: Exception | None = None
        self._index = 0
        self._clock = PlaybackClock(time.monotonic())

    def start(self) -> None:
        """Open the first clause, if it is there."""
        self._clauses.on_arrival = self._advance
        self._advance()

    def close(self) -> None:
        """Stop everything that is open. Idempotent."""
        self._exhausted = self._ended = True
        self._clauses.close()
        for opened in self._opened:
            if opened.stream is not None:
                opened.stream.close()
        self._opened.clear()

    def __aiter__(self) -> ClausePipeline:
        return self

    async def __anext__(self) -> ClauseAudio:
        """The next piece. Raises EngineError and what else the engine's slot failed with."""
        while not self._opened:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            if self._exhausted:
                return self._end()
            await self._clauses.arrival()
            self._advance()
        opened = self._opened[0]
        produced = await self._next_of(opened)
        if produced is None:
            return self._end_clause(opened)
        return self._take(opened, produced)

    async def _next_of(self, opened: _Opened) -> Produced | None:
        if opened.stream is None:
            return None
        try:
            return await anext(opened.stream)
        except StopAsyncIteration:
            return None

    def _take(self, opened: _Opened, produced: Produced) -> ClauseAudio:
        self._account(produced)
        if not np.isfinite(produced.samples).all():
            raise EngineError("The engine produced sound that is not a number.")
        opened.made += len(produced.samples)
        self._check_length(opened)
        self._advance()  # less waits now
        samples = self._joiner.push(produced.samples, produced.words)
        self._clock.push(len(samples) / self._sample_rate_hz, time.monotonic())
        return ClauseAudio(samples, self._index, words=self._joiner.take_words())

    def _account(self, produced: Produced) -> None:
        timings = self._timings
        for stage, spent_ms in produced.stages_ms.items():
            timings.stages_ms[stage] = timings.stages_ms.get(stage, 0.0) + spent_ms
        timings.tokens += produced.tokens
        if timings.first_token_ms is None and produced.first_token_s is not None:
            timings.first_token_ms = (produced.first_token_s - timings.arrived_s) * 1000

    def _check_length(self, opened: _Opened) -> None:
        if opened.stream is None or opened.stream.utterance.bounds_itself:
            return
        limit_s = opened.stream.utterance.max_audio_s
        made_s = opened.made / self._sample_rate_hz
        characters = len(opened.clause.text)
        if opened.stream.finish_reason == "length":
            raise RunawayOutput(
                f"The engine broke off after {made_s:.1f} s of sound for {characters} characters, "
                "which did not end by itself."
            )
        if limit_s is not None and made_s > limit_s + 1.0:
            raise RunawayOutput(
                f"The engine made {made_s:.1f} s of sound for {characters} characters; at most "
                f"{limit_s:.1f} s were expected."
            )

    def _end_clause(self, opened: _Opened) -> ClauseAudio:
        self._opened.popleft()
        index, self._index = self._index, self._index + 1
        samples = self._joiner.end_clause(opened.clause.end, opened.clause.pause_ms)
        self._timings.clauses += 1
        self._advance()
        return ClauseAudio(samples, index, clause_ended=True, words=self._joiner.take_words())

    def _end(self) -> ClauseAudio:
        """What the joiner has kept until here."""
        self._ended = True
        samples = self._joiner.finish()
        return ClauseAudio(samples, max(self._index - 1, 0), clause_ended=True, last=True)

    def _advance(self) -> None:
        """Open the next clause if the last opened one is fully produced and there is room."""
        while not self._exhausted and len(self._opened) < LOOK_AHEAD:
            newest = self._opened[-1].stream if self._opened else None
            if newest is not None and not newest.finished:
                return
            if newest is not None and newest.waiting_bytes > LOOK_AHEAD_BYTES:
                return
            try:
                if not self._open_next():
                    self._exhausted = self._clauses.ended
                    return
            except Exception as error:  # noqa: BLE001 - raised to the consumer in its turn
                self._error, self._exhausted = error, True

    def _open_next(self) -> bool:
        """False where no clause is there to be opened."""
        began_s = time.monotonic()
        clause = self._clauses.take()
        self._timings.normalize_ms += (time.monotonic() - began_s) * 1000
        if clause is None:
            return False
        if not clause.spans:
            self._opened.append(_Opened(clause, None))
            return True
        stream = self._open_stream(self._to_utterance(clause, self._clock.underrun_at_s))
        stream.on_finished = self._advance
        self._opened.append(_Opened(clause, stream))
        return True
