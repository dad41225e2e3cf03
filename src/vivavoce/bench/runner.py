"""Putting load on a server: a fixed number of callers, or requests that arrive by themselves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from vivavoce.bench.arrivals import schedule_s
from vivavoce.bench.clients import Speaker
from vivavoce.bench.clients.base import now_s
from vivavoce.bench.measures import Listening, Measure, Recorder
from vivavoce.bench.summary import Summary, summarize
from vivavoce.bench.texts import TextSource

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
