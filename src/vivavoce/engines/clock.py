"""When a listener's playback runs dry: one rule for engines, the service and measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vivavoce.types import Samples

SILENCE_PEAK = 0.003
"""-50 dBFS: no sample of speech stays under it for long."""


@dataclass(slots=True)
class PlaybackClock:
    """Plays what it is given as soon as it is there, one after another, in real time.

    ``underrun_at_s`` (of any steady clock) is when all of that has been played; before the first
    of it, when something else before it has been: an utterance's deadline. With ``can_wait`` what
    comes late is played when it comes, and playback lasts from then on; without it, the clock says
    by when each piece is needed, however late the ones before it were.
    """

    underrun_at_s: float = 0.0
    can_wait: bool = True
    has_audio: bool = False

    def push(self, duration_s: float, now_s: float) -> float:
        """Take so much sound, there at ``now_s``; for how many seconds nothing was left before it.

        Before the first sound nobody waits, so that is 0 for it.
        """
        if duration_s <= 0.0:
            return 0.0
        stalled_s = max(0.0, now_s - self.underrun_at_s)
        if self.can_wait:
            self.underrun_at_s += stalled_s
        self.underrun_at_s += duration_s
        stalled_s = stalled_s if self.has_audio else 0.0
        self.has_audio = True
        return stalled_s

    def drop(self, duration_s: float) -> None:
        """So much of what was pushed is not played after all."""
        self.underrun_at_s -= duration_s

    def push_speech(self, samples: Samples, sample_rate_hz: int, now_s: float) -> float:
        """The same for sound of an engine, float32 (n,): silence before the first word is trimmed
        behind it, so nobody hears it."""
        if not self.has_audio:
            loud = np.flatnonzero(np.abs(samples) >= SILENCE_PEAK)
            samples = samples[loud[0] :] if len(loud) else samples[:0]
        return self.push(len(samples) / sample_rate_hz, now_s)
