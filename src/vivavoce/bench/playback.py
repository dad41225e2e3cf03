"""What a listener hears of a stream: when it becomes audible and where it stalls.

Both classes work on arrival times alone (seconds of any steady clock) and know no network. The
listener is modelled so: playback starts ``buffer_ms`` after the first chunk arrives and then runs
in real time; a chunk that arrives after everything before it was played leaves a gap, and playback
goes on the moment it is there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MIN_STALL_MS = 1.0
"""Gaps under this are neither counted nor summed: no sound card works that finely."""

AUDIBLE_DBFS = -50.0
"""What a sample must exceed to be the first audible one."""

INT16_FULL_SCALE = 32_768.0
FLOAT_FULL_SCALE = 1.0


class PlaybackClock:
    """Plays one stream against the clock and counts where it runs dry."""

    def __init__(self, sample_rate_hz: int, buffer_ms: float = 0.0) -> None:
        self.buffer_ms = buffer_ms
        self.underruns = 0
        self.stalled_ms = 0.0
        self._sample_rate_hz = sample_rate_hz
        self._dry_at_s: float | None = None

    @property
    def ends_at_s(self) -> float | None:
        """When all that has arrived will have been played; None before the first chunk."""
        return self._dry_at_s

    def feed(self, arrived_s: float, samples: int) -> float:
        """Take a chunk of ``samples``; returns when its first sample is played."""
        starts_s = self._start_of(arrived_s)
        self._dry_at_s = starts_s + samples / self._sample_rate_hz
        return starts_s

    def _start_of(self, arrived_s: float) -> float:
        if self._dry_at_s is None:
            return arrived_s + self.buffer_ms / 1000
        if arrived_s <= self._dry_at_s:
            return self._dry_at_s
        stalled_ms = (arrived_s - self._dry_at_s) * 1000
        if stalled_ms >= MIN_STALL_MS:
            self.underruns += 1
            self.stalled_ms += stalled_ms
        return arrived_s


class AudibleDetector:
    """Finds when the first sample above a threshold is heard by a listener without a buffer.

    Silence in front of the speech has to be played first, and so does the rest of its own chunk:
    both count. Stalls before the first sound count as well.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        threshold_dbfs: float = AUDIBLE_DBFS,
        full_scale: float = INT16_FULL_SCALE,
    ) -> None:
        """``full_scale`` is the loudest sample: 32,768 of int16, 1.0 of float32."""
        self.audible_at_s: float | None = None
        self._sample_rate_hz = sample_rate_hz
        self._clock = PlaybackClock(sample_rate_hz)
        self._threshold = 10 ** (threshold_dbfs / 20) * full_scale

    def feed(self, arrived_s: float, samples: NDArray[np.int16] | NDArray[np.float32]) -> None:
        """Take a chunk, shape (n,); does nothing once something was audible."""
        if self.audible_at_s is not None:
            return
        starts_s = self._clock.feed(arrived_s, len(samples))
        # Wider, because the absolute value of the lowest int16 is not an int16.
        loud = np.abs(samples.astype(np.float64)) > self._threshold
        if loud.any():
            self.audible_at_s = starts_s + int(loud.argmax()) / self._sample_rate_hz
