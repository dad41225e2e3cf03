"""How many rows a device keeps fed, and how fast their chunks may grow: from measured times.

A step reads at most one prompt, makes one frame of all rows, and decodes the chunks that are whole,
those of one length together. From the longest that steps can take follow a ramp of chunks under
which playback never runs dry, whoever joins meanwhile, and the rows for which there is such a ramp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vivavoce.engines.qwen3.chunks import RAMP

FRAME_MS = 80.0
_LONGEST = 32
"""A ramp that has not reached its top after so many chunks stays where it is."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Milliseconds: reading a prompt, the slowest that is captured; a frame by bucket of rows; a
    chunk, once for all rows of one length (``chunk_ms``) and for each frame of each of them
    (``sound_ms``).
    """

    prefill_ms: float
    frame_ms: Mapping[int, float]
    chunk_ms: float
    sound_ms: float

    def of_frame(self, rows: int) -> float:
        """A frame of ``rows`` rows, which run in the next larger bucket."""
        larger = [bucket for bucket in self.frame_ms if bucket >= rows]
        return self.frame_ms[min(larger, default=max(self.frame_ms))]

    def of_chunk(self, rows: int, frames: int) -> float:
        """The next ``frames`` of ``rows`` rows to sound."""
        return self.chunk_ms + self.sound_ms * rows * frames

    def longest_ms(self, rows: int, steps: int) -> float:
        """The most that ``steps`` steps take with at most ``rows`` rows.

        Every step reads a prompt and decodes a chunk of each length; all sound that the rows make
        meanwhile is decoded, and what waited before.
        """
        step = self.prefill_ms + self.of_frame(rows) + self.chunk_ms * min(rows, max(RAMP))
        return steps * step + self.sound_ms * rows * (steps + max(RAMP) - 1)


def ramp_for(costs: Costs, rows: int) -> tuple[int, ...] | None:
    """Sizes of a row's chunks, the last repeating; None where a frame takes longer than it plays.

    Each is the largest, at most the next of ``RAMP``, that arrives before what was sent is played.
    """
    if costs.longest_ms(rows, 1) > FRAME_MS:
        return None
    sizes, reserve_ms = [RAMP[0]], RAMP[0] * FRAME_MS
    while sizes[-1] < RAMP[-1] and len(sizes) < _LONGEST:
        allowed = RAMP[: RAMP.index(sizes[-1]) + 2]
        size = max(each for each in allowed if costs.longest_ms(rows, each) <= reserve_ms)
        reserve_ms += size * FRAME_MS - costs.longest_ms(rows, size)
        sizes.append(size)
    return tuple(sizes)


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

    A device too slow for even one row gets what was asked for: it breaks off either way.
    """
    if costs is None:
        return Pace(most)
    rows = most if fixed else capacity_for(costs, most) or most
    return Pace(rows, ramp_for(costs, rows) or RAMP)
