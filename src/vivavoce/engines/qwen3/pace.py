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
from functools import lru_cache
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

from vivavoce.runtime.graphs.api import bucket_over, buckets_to

RAMP = (1, 2, 4, 8, 12)

_ROWS, _ROWS_OF_LONGEST = (1, 4, 16, 64), (1, 2, 4, 8, 16, 32, 64)


def sound_buckets(frames: int, most: int) -> tuple[int, ...]:
    """Rows that chunks of so many frames are decoded of, at most ``most``; ascending.

    Rows begin one a step, so that short chunks are rarely of more than one, and few are captured.
    A row that speaks on decodes the longest again and again: what fits closest saves most there.
    """
    return buckets_to(most, _ROWS_OF_LONGEST if frames == max(RAMP) else _ROWS)


def split(rows: int, frames: int, most: int) -> list[tuple[int, int]]:
    """In which calls so many rows are decoded: (rows, rows of the captured size they run in).

    ``most``: rows of the batch; ``frames`` as captured. Rows that would fill less than half of a
    captured size fill a smaller one first: five run as four and one, and not as sixteen.
    """
    buckets = sound_buckets(frames, most)
    calls: list[tuple[int, int]] = []
    while rows:
        over = bucket_over(rows, buckets)
        assert over is not None, "more than the batch has"
        if 2 * rows < over:
            over = max(each for each in buckets if each <= rows)
        calls.append((min(rows, over), over))
        rows -= min(rows, over)
    return calls


@dataclass(slots=True)
class ChunkRamp:
    """Counts one row's chunks. The last size of ``sizes`` repeats."""

    sizes: tuple[int, ...] = RAMP
    taken: int = 0

    @property
    def size(self) -> int:
        """How long the next chunk is."""
        return self.sizes[min(self.taken, len(self.sizes) - 1)]

    def take(self, waiting: int, *, flush: bool = False, last: bool = False) -> int:
        """How many of the ``waiting`` frames to decode now; 0 means to wait for more.

        ``flush``: no more come soon, so as many as a size of ``RAMP`` holds, which are what is
        captured. ``last``: no more come, so all of them, at most the longest chunk.
        """
        size = self.size
        if flush or last:
            size = min(waiting, max(self.sizes))
        if flush and not last:
            size = max((each for each in RAMP if each <= size), default=0)
        if size == 0 or waiting < size:
            return 0
        self.taken += 1
        return size


def by_size(due: Mapping[int, int], most: int | None = None) -> list[tuple[int, ...]]:
    """Rows that are decoded together, those with the shortest chunks first.

    ``due`` maps rows to frames; zeros are left out. ``most``: rows of the batch where chunks run in
    captured sizes: then those of one captured length go together, as ``split`` says. Else those
    that decode equally many frames do.
    """
    groups: dict[int, list[int]] = {}
    for row, frames in sorted(due.items()):
        if frames:
            length = frames if most is None else captured_length(frames)
            groups.setdefault(length, []).append(row)
    calls: list[tuple[int, ...]] = []
    for length, rows in sorted(groups.items()):
        counts = [(len(rows), 0)] if most is None else split(len(rows), length, most)
        for count, _ in counts:
            calls.append(tuple(rows[:count]))
            del rows[:count]
    return calls


def captured_length(frames: int) -> int:
    """The captured chunk that so many frames run in: a last chunk may be shorter."""
    length = bucket_over(frames, RAMP)
    assert length is not None, "longer than any chunk"
    return length


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
