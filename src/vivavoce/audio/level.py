"""A fixed gain without clipping: stateless, so chunks and the whole come out the same."""

from __future__ import annotations

import numpy as np

from vivavoce.types import Samples

KNEE = 0.8
"""Up to here (of full scale) the gain is exact; above it peaks are rounded off below 1.0."""


def amplify(samples: Samples, gain_db: float) -> Samples:
    """Louder or softer sound, float32 (n,), always within (-1, 1) where it was amplified."""
    if gain_db == 0.0:
        return samples
    scaled = samples * np.float32(10.0 ** (gain_db / 20.0))
    level = np.abs(scaled)
    over = level > KNEE
    if over.any():
        rounded = KNEE + (1.0 - KNEE) * np.tanh((level[over] - KNEE) / (1.0 - KNEE))
        scaled[over] = np.copysign(rounded, scaled[over]).astype(np.float32)
    return scaled
