"""Whether a model has fallen silent: it says nothing and does not end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vivavoce.types import Samples

SILENCE_PEAK = 0.003
"""-50 dBFS: no sample of speech stays under it for long."""

SILENCE_S = 3.0


@dataclass(slots=True)
class SilenceGuard:
    """Says when nothing has been heard for ``SILENCE_S``."""

    sample_rate_hz: int
    _silent: int = 0

    def heard(self, samples: Samples) -> bool:
        """Take the next sound, float32 (n,); True when it has been silent for too long."""
        loud = np.flatnonzero(np.abs(samples) >= SILENCE_PEAK)
        self._silent = (
            len(samples) - 1 - int(loud[-1]) if len(loud) else self._silent + len(samples)
        )
        return self._silent > SILENCE_S * self.sample_rate_hz
