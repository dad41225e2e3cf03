"""Load on an engine itself, without a server: what its callers hear, by a playback clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vivavoce.bench.heard import FLOAT_FULL_SCALE, AudibleDetector, PlaybackClock
from vivavoce.bench.load import schedule_s
from vivavoce.bench.stats import spread_ms
from vivavoce.engines.base import Engine
from vivavoce.types import Samples, Utterance

NAP_S = 0.0005
"""How long to sleep at most while nobody speaks: an arrival must not wait for it."""


@dataclass(slots=True)
class _Caller:
    came_s: float
    playback: PlaybackClock
    onset: AudibleDetector
    first_s: float | None = None
    samples: int = 0

    def heard(self, now_s: float, samples: Samples) -> None:
        if self.first_s is None:
            self.first_s = now_s
        self.playback.feed(now_s, len(samples))
        self.onset.feed(now_s, samples)
        self.samples += len(samples)

    def waited_ms(self, heard_s: float | None) -> float | None:
        """From when it came, where it heard anything."""
        return None if heard_s is None else (heard_s - self.came_s) * 1000


class EngineLoad:
    """Drives the steps of a loaded engine; ``utterance(number)`` says what a call asks for."""

    def __init__(self, engine: Engine, utterance: Callable[[int], Utterance]) -> None:
        self._engine, self._utterance = engine, utterance
        self._live: dict[int, _Caller] = {}
        self._gone: list[_Caller] = []
        self._number = 0

    def open_loop(self, rate_per_s: float, duration_s: float, seed: int = 1) -> dict[str, Any]:
        """Calls come as a Poisson process; one that finds no slot waits for one.

        Runs until the last is heard. Times are from when a call came.
        """
        began_s = time.perf_counter()
        coming = [began_s + at_s for at_s in schedule_s(rate_per_s, seed, duration_s=duration_s)]
        while coming or self._live:
            now_s = time.perf_counter()
            while coming and coming[0] <= now_s and len(self._live) < self._engine.capacity:
                self._begin(coming.pop(0))
            if self._live:
                self._step()
            elif coming:
                time.sleep(max(0.0, min(coming[0] - time.perf_counter(), NAP_S)))
        return self._told(time.perf_counter() - began_s)

    def closed_loop(self, callers: int, duration_s: float) -> dict[str, Any]:
        """Whoever has heard all of it calls again at once; who still speaks at the end is cut."""
        began_s = time.perf_counter()
        while time.perf_counter() - began_s < duration_s:
            while len(self._live) < callers:
                self._begin(time.perf_counter())
            self._step()
        wall_s = time.perf_counter() - began_s
        self._gone += self._live.values()
        for slot in [*self._live]:
            self._engine.release(slot)
        self._live.clear()
        return self._told(wall_s)

    def _begin(self, came_s: float) -> None:
        self._number += 1
        rate_hz = self._engine.info.sample_rate_hz
        onset = AudibleDetector(rate_hz, full_scale=FLOAT_FULL_SCALE)
        caller = _Caller(came_s, PlaybackClock(rate_hz), onset)
        self._live[self._engine.admit(self._utterance(self._number))] = caller

    def _step(self) -> None:
        """One step. Raises the error of a slot that failed."""
        produced = self._engine.step()
        now_s = time.perf_counter()
        for piece in produced:
            if piece.error is not None:
                raise piece.error
            if len(piece.samples):
                self._live[piece.slot].heard(now_s, piece.samples)
            if piece.last:
                self._gone.append(self._live.pop(piece.slot))

    def _told(self, wall_s: float) -> dict[str, Any]:
        """Of this run's calls, which are forgotten then."""
        gone, self._gone = self._gone, []
        clocks = [caller.playback for caller in gone]
        sound_s = sum(c.samples for c in gone) / self._engine.info.sample_rate_hz
        return {
            "calls": len(gone),
            "first_sound_ms": spread_ms(c.waited_ms(c.first_s) for c in gone),
            "first_audible_ms": spread_ms(c.waited_ms(c.onset.audible_at_s) for c in gone),
            "audio_s_per_s": round(sound_s / wall_s, 2),
            "calls_with_underruns": sum(clock.underruns > 0 for clock in clocks),
            "underruns": sum(clock.underruns for clock in clocks),
            "longest_stall_ms": round(max((c.stalled_ms for c in clocks), default=0.0), 1),
        }
