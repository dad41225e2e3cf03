"""Clauses joined to one stream: trimmed, with natural pauses, without clicks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from vivavoce.audio.pcm import empty
from vivavoce.audio.trim import ClauseTrimmer
from vivavoce.types import ClauseEnd, Samples

PAUSES_MS: Mapping[ClauseEnd, float] = MappingProxyType(
    {"clause": 100.0, "sentence": 260.0, "paragraph": 520.0}
)
"""Natural pauses at speed 1, chosen within what readers aloud do."""

TAIL_MS = 50.0
"""Silence after the last clause, so that players do not cut its end."""


def pause_ms(end: ClauseEnd, speed: float = 1.0) -> float:
    """The natural pause after a clause that ends so, in milliseconds."""
    return PAUSES_MS[end] / speed


def silence(duration_ms: float, sample_rate_hz: int) -> Samples:
    """Silence, float32 (n,)."""
    return np.zeros(max(0, round(duration_ms * sample_rate_hz / 1000)), np.float32)


class Joiner:
    """Joins the clauses of one utterance.

    A natural pause is emitted before the next clause's first sound, so that nothing trails after
    the last clause but ``TAIL_MS``. An explicit pause replaces the natural one, is not scaled by
    the speed, and is emitted at once, wherever it stands. Clauses without sound leave no trace
    but their explicit pause.
    """

    def __init__(self, sample_rate_hz: int, speed: float = 1.0) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._speed = speed
        self._trimmer: ClauseTrimmer | None = None
        self._clause_sounds = False
        self._any_sound = False
        self._pending_ms = 0.0  # natural pause before the next sound
        self._explicit_ms = 0.0  # explicit pauses since the last sound

    def begin_clause(self) -> None:
        """Start a clause; the one before must have been ended."""
        self._trimmer = ClauseTrimmer(self._sample_rate_hz)
        self._clause_sounds = False

    def push(self, samples: Samples) -> Samples:
        """Take sound of the current clause, float32 (n,); return what is ready, float32 (m,)."""
        if self._trimmer is None:
            self.begin_clause()
        assert self._trimmer is not None
        return self._after_pause(self._trimmer.push(samples))

    def end_clause(self, end: ClauseEnd, pause_ms: float | None = None) -> Samples:
        """End the current clause; return its rest, and its pause if that is explicit."""
        rest = empty()
        if self._trimmer is not None:
            rest = self._after_pause(self._trimmer.finish())
            self._trimmer = None
        if pause_ms is not None:
            self._pending_ms = 0.0
            self._explicit_ms += pause_ms
            rest = np.concatenate([rest, silence(pause_ms, self._sample_rate_hz)])
        elif self._clause_sounds:
            self._pending_ms = PAUSES_MS[end] / self._speed
        self._clause_sounds = False
        return rest

    def finish(self) -> Samples:
        """Return what is left and the closing silence; the joiner is spent."""
        rest = self.end_clause("sentence") if self._trimmer is not None else empty()
        if not self._any_sound:
            return rest
        tail_ms = max(0.0, TAIL_MS - self._explicit_ms)
        return np.concatenate([rest, silence(tail_ms, self._sample_rate_hz)])

    def _after_pause(self, samples: Samples) -> Samples:
        if not len(samples):
            return samples
        pause = silence(self._pending_ms, self._sample_rate_hz)
        self._pending_ms = 0.0
        self._explicit_ms = 0.0
        self._clause_sounds = self._any_sound = True
        return np.concatenate([pause, samples]) if len(pause) else samples
