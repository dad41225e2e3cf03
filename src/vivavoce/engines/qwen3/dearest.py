"""The most that sound can take within some steps, with what is padded to captured sizes.

Each step decodes at most one chunk of each row, those of one length together, in the next captured
number of rows. Which lengths come together is up to the callers: how long they speak, and when they
are silent. So the dearest step is looked for, at several prices of a frame of one row, because rows
decode no more frames than they have made. Whatever the price, what frames cost at it and what the
dearest steps take beyond that is not less than the truth; the least of these sums is told.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vivavoce.engines.capture.buckets import bucket_over
from vivavoce.engines.qwen3.chunks import RAMP, sound_buckets

PRICES_MS: NDArray[np.float64] = np.array([0.0, *(2 ** (step / 3) for step in range(-30, 22))])
"""The same for every device, so that a slower one never seems the quicker by chance."""


def padded(rows: int, frames: int, most: int) -> int:
    """Frames of all rows that the captured chunk has in which so many of each are decoded.

    ``most``: rows of the batch. A last chunk may be shorter than what is captured.
    """
    length = bucket_over(frames, RAMP)
    assert length is not None, "longer than any chunk"
    count = bucket_over(rows, sound_buckets(length, most))
    assert count is not None, "more than the batch has"
    return count * length


def dearest_ms(chunk_ms: float, sound_ms: float, rows: int, steps: int, most: int) -> float:
    """Of all that ``rows`` rows of ``most`` decode in ``steps`` steps, and what waited before."""
    frames = rows * (steps + max(RAMP) - 1)
    beyond = _beyond_ms(chunk_ms, sound_ms, most)[:, rows]
    return float((PRICES_MS * frames + steps * beyond).min())


@lru_cache(maxsize=64)
def _beyond_ms(chunk_ms: float, sound_ms: float, most: int) -> NDArray[np.float64]:
    """What the dearest step of up to so many rows takes beyond the price: [prices, most + 1]."""
    beyond = np.zeros((len(PRICES_MS), most + 1))
    for frames in range(1, max(RAMP) + 1):
        length = bucket_over(frames, RAMP)
        assert length is not None
        without = beyond.copy()
        # Of all that fill a captured number of rows, the fewest are the dearest for their frames.
        for fewer, count in pairwise((0, *sound_buckets(length, most))):
            rows = fewer + 1
            took_ms = chunk_ms + sound_ms * count * length - PRICES_MS * (rows * frames)
            with_it = without[:, : most + 1 - rows] + took_ms[:, None]
            beyond[:, rows:] = np.maximum(beyond[:, rows:], with_it)
    return beyond
