"""One benchmark from connecting to closing: warm up, put the load on or search, hand back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from vivavoce.bench.clients import Speaker, open_speaker
from vivavoce.bench.heard import Measure
from vivavoce.bench.load import ClosedLoop, OnLevel, Run, Summary, call_probe, summarize
from vivavoce.bench.results import Search, Setup
from vivavoce.bench.texts import TextSource
from vivavoce.errors import Unavailable

Probe: TypeAlias = Callable[[int], Awaitable[bool]]
"""Runs that many calls at once and says whether all of them went well."""


async def find_max(probe: Probe, *, limit: int, start: int = 1) -> int:
    """The largest number from 1 to ``limit`` that passes twice; 0 if not even one call does.

    The second pass guards against a lucky run; where it fails, smaller numbers are tried.
    """
    passed, failed = await _double(probe, start, limit)
    while failed - passed > 1:
        middle = (passed + failed) // 2
        if await probe(middle):
            passed = middle
        else:
            failed = middle
    while passed and not await probe(passed):
        passed -= max(1, passed // 16)
    return passed


async def _double(probe: Probe, start: int, limit: int) -> tuple[int, int]:
    """A number that passes (or 0) and a larger one that does not (or is over the limit)."""
    passed, tried = 0, min(start, limit)
    while await probe(tried):
        passed = tried
        if tried == limit:
            return passed, limit + 1
        tried = min(tried * 2, limit)
    return passed, tried


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures and the measures behind them; of a search, what it found."""

    summary: Summary
    measures: list[Measure]
    search: Search | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """What to do, with which texts, after how many requests that do not count."""

    setup: Setup
    texts: TextSource = field(default_factory=TextSource)
    warm_up: int = 2

    async def measure(self, on_measure: Callable[[Measure], None] | None = None) -> Outcome:
        """Put the load on once. Raises Unavailable if the server cannot be reached."""
        async with self._speaker() as speaker:
            run = self._run(speaker, on_measure)
            summary = await run.perform(self.setup.load)
            return Outcome(summary, run.measures)

    async def search(self, on_level: OnLevel, *, limit: int, start: int = 1) -> Outcome:
        """Find how many calls at once have no failure and no underrun.

        The setup's load is what one call does; a ``ClosedLoop``'s ``requests`` are its turns. The
        figures are those of the last run at the number found. Raises Unavailable as ``measure``.
        """
        call = self.setup.load
        if not isinstance(call, ClosedLoop):
            raise TypeError("a search needs a closed loop")
        summaries: dict[int, Summary] = {}
        levels: list[tuple[int, bool]] = []

        def note(calls: int, summary: Summary) -> None:
            summaries[calls] = summary
            levels.append((calls, summary.clean))
            on_level(calls, summary)

        async with self._speaker() as speaker:
            probe = call_probe(lambda: self._run(speaker), call, note)
            found = await find_max(probe, limit=limit, start=start)
        figures = summaries.get(found, summarize([], 0.0))
        return Outcome(figures, [], Search(found, tuple(levels)))

    def _run(self, speaker: Speaker, on_measure: Callable[[Measure], None] | None = None) -> Run:
        return Run(speaker, self.texts, self.setup.listening, on_measure)

    @asynccontextmanager
    async def _speaker(self) -> AsyncIterator[Speaker]:
        speaker = open_speaker(self.setup.target)
        try:
            warm = await self._run(speaker).warm_up(self.warm_up)
            failures = [measure.failure for measure in warm if measure.failure]
            if failures and all(failure.code == "unreachable" for failure in failures):
                raise Unavailable(f"No server answers at {self.setup.target.endpoint}.")
            yield speaker
        finally:
            await speaker.aclose()
