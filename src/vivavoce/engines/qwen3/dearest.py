"""The most that sound can take within some steps, with what is padded to captured sizes.

Each step decodes at most one chunk of each row, those of one captured length together, in captured
numbers of rows. Which lengths come together is up to the callers: how long they speak, and when
they are silent. So the dearest step is looked for, at several prices of a frame of one row, because
rows decode no more frames than they have made. Whatever the price, what frames cost at it and what
the dearest steps take beyond that is not less than the truth; the least of these sums is told.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vivavoce.engines.qwen3.chunks import RAMP, captured_length, split

PRICES_MS: NDArray[np.float64] = np.array([0.0, *(2 ** (step / 3) for step in range(-30, 22))])
"""The same for every device, so that a slower one never seems the quicker by chance."""


def chunk_ms_of(chunk_ms: float, sound_ms: float, rows: int, frames: int, most: int) -> float:
    """What ``frames`` frames of each of ``rows`` rows take, in the captured sizes they run in.

    ``chunk_ms``: a call; ``sound_ms``: a frame of one row in it. ``most``: rows of the batch.
    """
    length = captured_length(frames)
    return sum(chunk_ms + sound_ms * size * length for _, size in split(rows, length, most))


def dearest_ms(chunk_ms: float, sound_ms: float, rows: int, steps: int, most: int) -> float:
    """Of all that ``rows`` rows of ``most`` decode in ``steps`` steps, and what waited before."""
    frames = rows * (steps + max(RAMP) - 1)
    beyond = _beyond_ms(chunk_ms, sound_ms, most)[:, rows]
    return float((PRICES_MS * frames + steps * beyond).min())


@lru_cache(maxsize=64)
def _beyond_ms(chunk_ms: float, sound_ms: float, most: int) -> NDArray[np.float64]:
    """What the dearest step of up to so many rows takes beyond the price: [prices, most + 1]."""
    beyond = np.zeros((len(PRICES_MS), most + 1))
    for shorter, length in pairwise((0, *RAMP)):
        without = beyond.copy()
        for rows in range(1, most + 1):
            took_ms = chunk_ms_of(chunk_ms, sound_ms, rows, length, most)
            # Of all that run in this length, the shortest are the dearest for their frames.
            over_ms = took_ms - PRICES_MS * (rows * (shorter + 1))
            with_it = without[:, : most + 1 - rows] + over_ms[:, None]
            beyond[:, rows:] = np.maximum(beyond[:, rows:], with_it)
    return beyond
