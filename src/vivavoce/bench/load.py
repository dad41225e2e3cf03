"""Putting load on a server: a fixed number of callers, or requests that arrive by themselves; and
what a whole run comes to in figures.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from vivavoce.bench.clients import Speaker
from vivavoce.bench.clients.base import now_s
from vivavoce.bench.heard import Listening, Measure, Recorder
from vivavoce.bench.stats import Distribution
from vivavoce.bench.texts import TextSource


def poisson_times_s(rate_per_s: float, seed: int) -> Iterator[float]:
    """Endless due times in seconds from the start, ascending, at ``rate_per_s`` on average.

    The gaps are exponential, so callers bunch as independent callers do.
    """
    if rate_per_s <= 0:
        raise ValueError("rate_per_s must be positive")
    draw = random.Random(seed)
    due_s = 0.0
    while True:
        due_s += draw.expovariate(rate_per_s)
        yield due_s


def schedule_s(
    rate_per_s: float, seed: int, *, requests: int | None = None, duration_s: float | None = None
) -> list[float]:
    """The due times of one run: at most ``requests`` of them, all before ``duration_s``."""
    if requests is None and duration_s is None:
        raise ValueError("give requests, duration_s or both")
    times = poisson_times_s(rate_per_s, seed)
    if duration_s is not None:
        end_s = duration_s
        times = itertools.takewhile(lambda due_s: due_s < end_s, times)
    return list(itertools.islice(times, requests))


@dataclass(frozen=True, slots=True)
class BufferSummary:
    """Playback over all good streams with a buffer of ``buffer_ms``."""

    buffer_ms: float
    streams_with_underrun: int
    underruns: int
    stalled_ms: float


@dataclass(frozen=True, slots=True)
class Rejections:
    """Answers with status 429: how many, how soon, and when they said to try again."""

    count: int
    with_retry_after: int
    answered_ms: Distribution | None
    retry_after_ms: Distribution | None


@dataclass(frozen=True, slots=True)
class Summary:
    """One run. Latencies are over good requests only, and count from when each was due.

    ``loop_lag_ms`` is how late this program itself ran: where it is not small, the figures
    describe the client. ``queue_ms``, ``inference_ms`` and ``network_ms`` are the parts of the time
    from sending to the first byte.
    """

    requests: int
    ok: int
    errors: dict[str, int]
    rejections: Rejections
    wall_s: float
    audio_s: float
    audio_s_per_s: float
    requests_per_s: float
    first_byte_ms: Distribution | None
    first_playable_ms: Distribution | None
    audible_ms: Distribution | None
    total_ms: Distribution | None
    chunk_gap_ms: Distribution | None
    rtf: Distribution | None
    schedule_lag_ms: Distribution | None
    loop_lag_ms: Distribution | None
    playback: tuple[BufferSummary, ...]
    queue_ms: Distribution | None = None
    inference_ms: Distribution | None = None
    network_ms: Distribution | None = None

    @property
    def clean(self) -> bool:
        """Whether every request was good and none stalled with the first of the buffers."""
        stalled = self.playback[0].underruns if self.playback else 0
        return 0 < self.requests == self.ok and stalled == 0


def summarize(
    measures: Sequence[Measure], wall_s: float, loop_lags_ms: Sequence[float] = ()
) -> Summary:
    """The figures of one run over all its requests."""
    good = [measure for measure in measures if measure.ok]
    parts = [measure.breakdown for measure in good if measure.breakdown is not None]
    audio_s = math.fsum(measure.audio_s for measure in good)
    return Summary(
        requests=len(measures),
        ok=len(good),
        errors=dict(Counter(m.failure.code for m in measures if m.failure).most_common()),
        rejections=_rejections(measures),
        wall_s=wall_s,
        audio_s=audio_s,
        audio_s_per_s=audio_s / wall_s if wall_s > 0 else 0.0,
        requests_per_s=len(measures) / wall_s if wall_s > 0 else 0.0,
        first_byte_ms=Distribution.of(m.first_byte_ms for m in good),
        first_playable_ms=Distribution.of(m.first_playable_ms for m in good),
        audible_ms=Distribution.of(m.audible_ms for m in good),
        total_ms=Distribution.of(m.total_ms for m in good),
        chunk_gap_ms=Distribution.of(gap for m in good for gap in m.gaps_ms),
        rtf=Distribution.of(m.rtf for m in good),
        schedule_lag_ms=Distribution.of(m.lag_ms for m in measures),
        loop_lag_ms=Distribution.of(loop_lags_ms),
        playback=_playback(good),
        queue_ms=Distribution.of(part.queue_ms for part in parts),
        inference_ms=Distribution.of(part.inference_ms for part in parts),
        network_ms=Distribution.of(part.network_ms for part in parts),
    )


def _rejections(measures: Sequence[Measure]) -> Rejections:
    refused = [m for m in measures if m.failure and m.failure.status == 429]
    after_ms = [m.failure.retry_after_ms for m in refused if m.failure]
    return Rejections(
        count=len(refused),
        with_retry_after=sum(value is not None for value in after_ms),
        answered_ms=Distribution.of(m.total_ms - m.lag_ms for m in refused),
        retry_after_ms=Distribution.of(after_ms),
    )


def _playback(good: Sequence[Measure]) -> tuple[BufferSummary, ...]:
    rows = zip(*(measure.playback for measure in good), strict=True)
    return tuple(
        BufferSummary(
            buffer_ms=row[0].buffer_ms,
            streams_with_underrun=sum(play.underruns > 0 for play in row),
            underruns=sum(play.underruns for play in row),
            stalled_ms=math.fsum(play.stalled_ms for play in row),
        )
        for row in rows
    )


_LAG_PROBE_S = 0.02


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """``concurrency`` callers, each asking again when its last answer is over.

    Ends after ``requests`` in all or ``duration_s``, whichever is first. With ``play_out`` a
    caller listens to the end before it goes on, then thinks for ``think_s``. The callers start
    at random within ``ramp_s``.
    """

    concurrency: int = 1
    requests: int | None = None
    duration_s: float | None = None
    think_s: float = 0.0
    play_out: bool = False
    ramp_s: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests at ``rate_per_s`` on average, as a Poisson process, however slow the answers."""

    rate_per_s: float
    requests: int | None = None
    duration_s: float | None = None
    seed: int = 0


@dataclass(slots=True)
class Run:
    """One load on one server: run it once, then read its measures."""

    speaker: Speaker
    texts: TextSource
    listening: Listening = field(default_factory=Listening)
    on_measure: Callable[[Measure], None] | None = None
    measures: list[Measure] = field(default_factory=list)
    loop_lags_ms: list[float] = field(default_factory=list)
    wall_s: float = 0.0

    async def perform(self, load: ClosedLoop | OpenLoop) -> Summary:
        """Put the load on and wait for every answer."""
        started_s = now_s()
        async with _lag_probe(self.loop_lags_ms):
            if isinstance(load, OpenLoop):
                await self._open(load, started_s)
            else:
                await self._closed(load, started_s)
        self.wall_s = now_s() - started_s
        return summarize(self.measures, self.wall_s, self.loop_lags_ms)

    async def warm_up(self, requests: int) -> list[Measure]:
        """Ask ``requests`` times, one after the other; these are not kept."""
        return [await self._speak(self._recorder(now_s())) for _ in range(requests)]

    def _recorder(self, due_s: float) -> tuple[str, Recorder]:
        text = self.texts.next()
        return text, Recorder(text, due_s, self.listening)

    async def _speak(self, asked: tuple[str, Recorder]) -> Measure:
        return await self.speaker.speak(*asked)

    async def _keep(self, asked: tuple[str, Recorder]) -> None:
        measure = await self._speak(asked)
        self.measures.append(measure)
        if self.on_measure:
            self.on_measure(measure)

    async def _open(self, load: OpenLoop, started_s: float) -> None:
        due = schedule_s(
            load.rate_per_s, load.seed, requests=load.requests, duration_s=load.duration_s
        )
        async with asyncio.TaskGroup() as group:
            for offset_s in due:
                due_s = started_s + offset_s
                await asyncio.sleep(max(0.0, due_s - now_s()))
                group.create_task(self._keep(self._recorder(due_s)))

    async def _closed(self, load: ClosedLoop, started_s: float) -> None:
        turns = _Turns(load, started_s)
        draw = random.Random(load.seed)
        async with asyncio.TaskGroup() as group:
            for _ in range(load.concurrency):
                group.create_task(self._caller(load, turns, draw.uniform(0.0, load.ramp_s)))

    async def _caller(self, load: ClosedLoop, turns: _Turns, waits_s: float) -> None:
        await asyncio.sleep(waits_s)
        while turns.take():
            asked = self._recorder(now_s())
            await self._keep(asked)
            plays_until_s = asked[1].plays_until_s
            if load.play_out and plays_until_s is not None:
                await asyncio.sleep(max(0.0, plays_until_s - now_s()))
            if load.think_s:
                await asyncio.sleep(load.think_s)


class _Turns:
    """How many requests the callers of a closed loop may still make."""

    def __init__(self, load: ClosedLoop, started_s: float) -> None:
        self._left = load.requests
        self._ends_s = None if load.duration_s is None else started_s + load.duration_s

    def take(self) -> bool:
        if self._ends_s is not None and now_s() >= self._ends_s:
            return False
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0


@asynccontextmanager
async def _lag_probe(lags_ms: list[float]) -> AsyncIterator[None]:
    """Notes how late this event loop wakes up, all the while."""
    probe = asyncio.create_task(_probe(lags_ms))
    try:
        yield
    finally:
        probe.cancel()


async def _probe(lags_ms: list[float]) -> None:
    while True:
        due_s = now_s() + _LAG_PROBE_S
        await asyncio.sleep(_LAG_PROBE_S)
        lags_ms.append(max(0.0, now_s() - due_s) * 1000)


OnLevel = Callable[[int, Summary], None]


def call_probe(
    make_run: Callable[[], Run], call: ClosedLoop, on_level: OnLevel
) -> Callable[[int], Awaitable[bool]]:
    """For ``find_max``: whether that many callers at once all hear their speech without a gap.

    Each caller makes ``call.requests`` turns.
    """

    async def probe(calls: int) -> bool:
        turns = (call.requests or 1) * calls
        load = ClosedLoop(
            concurrency=calls,
            requests=None if call.duration_s else turns,
            duration_s=call.duration_s,
            think_s=call.think_s,
            play_out=True,
            ramp_s=call.ramp_s,
            seed=call.seed + calls,
        )
        summary = await make_run().perform(load)
        on_level(calls, summary)
        return summary.clean

    return probe
