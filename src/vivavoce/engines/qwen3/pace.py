"""How many rows a device keeps fed, and how fast their chunks may grow: from measured times.

A step reads at most one piece of a prompt, makes one frame of all rows, and decodes the chunks
that are whole, those of one captured length together. Frames and chunks run in captured sizes, and
cost what those do. From the longest that steps can take follow a ramp of chunks under which
playback never runs dry, whoever joins meanwhile, and the rows for which there is such a ramp.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from vivavoce.engines.qwen3.chunks import RAMP
from vivavoce.engines.qwen3.dearest import chunk_ms_of, dearest_ms

log = logging.getLogger(__name__)

FRAME_MS = 80.0
_LONGEST, _LONGEST_ALONE = 16, 64
"""Chunks within which a row's last size is reached: else there are too many rows. The only row has
nobody to give way to."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Milliseconds: reading a piece of a prompt, the slowest there is; a frame by bucket of rows; a
    chunk, once for each call of the codec (``chunk_ms``) and for each frame of each row of the
    captured size it runs in (``sound_ms``). The largest bucket is all rows of the batch.
    """

    prefill_ms: float
    frame_ms: Mapping[int, float]
    chunk_ms: float
    sound_ms: float

    def of_frame(self, rows: int) -> float:
        """A frame of ``rows`` rows, which run in the next larger bucket.

        No less than that of fewer rows: what was measured may say so by chance.
        """
        bucket = min((each for each in self.frame_ms if each >= rows), default=max(self.frame_ms))
        return max(took for each, took in self.frame_ms.items() if each <= bucket)

    def of_chunk(self, rows: int, frames: int) -> float:
        """The next ``frames`` of ``rows`` rows to sound, in the captured sizes they run in."""
        return chunk_ms_of(self.chunk_ms, self.sound_ms, rows, frames, self._most(rows))

    def longest_ms(self, rows: int, steps: int) -> float:
        """The most that ``steps`` steps take with at most ``rows`` rows.

        Every step reads a piece, unless the only row is the one that speaks. All sound that the
        rows make meanwhile is decoded, and what waited before, in the dearest chunks there can be.
        """
        piece_ms = self.prefill_ms if rows > 1 else 0.0
        sound_ms = dearest_ms(self.chunk_ms, self.sound_ms, rows, steps, self._most(rows))
        return steps * (piece_ms + self.of_frame(rows)) + sound_ms

    def _most(self, rows: int) -> int:
        """Rows of the batch, of which ``rows`` are said to be some."""
        return max(rows, *self.frame_ms)


def ramp_for(costs: Costs, rows: int) -> tuple[int, ...] | None:
    """Sizes of a row's chunks, the last repeating; None where there is no such ramp.

    A size repeats until what was sent lasts as long as a chunk of the next size takes to arrive,
    and no longer: every chunk arrives before what was sent before it is played.
    """
    sizes: list[int] = []
    longest = _LONGEST if rows > 1 else _LONGEST_ALONE
    for size, following in pairwise((*RAMP, RAMP[-1])):
        longest_ms = costs.longest_ms(rows, size)
        if longest_ms > size * FRAME_MS:
            return None
        # After the first chunk of a size, as much as the chunk itself is there at least.
        missing_ms = max(0.0, costs.longest_ms(rows, following) - size * FRAME_MS)
        gained_ms = size * FRAME_MS - longest_ms
        if missing_ms > gained_ms * longest:
            return None
        sizes += [size] * (1 + (ceil(missing_ms / gained_ms) if missing_ms else 0))
    return tuple(sizes) if len(sizes) <= longest else None


def capacity_for(costs: Costs, most: int) -> int:
    """How many rows, at most ``most``, can be kept fed; 0 where not even one."""
    return max((rows for rows in range(1, most + 1) if ramp_for(costs, rows)), default=0)


@dataclass(frozen=True, slots=True)
class Pace:
    """How many rows speak at once, and the sizes of their chunks."""

    rows: int
    ramp: tuple[int, ...] = RAMP


def pace_for(costs: Costs | None, most: int, *, fixed: bool) -> Pace:
    """At most ``most`` rows, exactly so many where that is ``fixed``; ``costs`` None: not measured.

    A device that keeps up with less than there has to be, one row or those that were asked for, has
    them with the usual ramp, and a warning.
    """
    if costs is None:
        return Pace(most)
    rows = most if fixed else max(1, capacity_for(costs, most))
    ramp = ramp_for(costs, rows)
    if ramp is None:
        log.warning(
            "This device does not keep %d calls fed: a step takes up to %.0f ms of the %.0f that a "
            "frame plays. Speech may break off.",
            *(rows, costs.longest_ms(rows, 1), FRAME_MS),
        )
    return Pace(rows, ramp or RAMP)
