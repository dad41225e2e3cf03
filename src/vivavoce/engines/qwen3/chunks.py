"""How many frames are decoded to sound at a time: one at first, then more and more.

The first sound leaves after one frame of 80 ms; later chunks are longer, because the codec costs
less a frame then and playback has a reserve to live on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vivavoce.runtime.graphs.api import buckets_to

RAMP = (1, 2, 4, 8, 12)

_ROWS, _ROWS_OF_LONGEST = (1, 4, 16, 64), (1, 2, 4, 8, 16, 32, 64)


def sound_buckets(frames: int, most: int) -> tuple[int, ...]:
    """Rows that chunks of so many frames are decoded of, at most ``most``; ascending.

    Rows begin one a step, so that short chunks are rarely of more than one, and few are captured.
    A row that speaks on decodes the longest again and again: what fits closest saves most there.
    """
    return buckets_to(most, _ROWS_OF_LONGEST if frames == max(RAMP) else _ROWS)


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


def by_size(due: Mapping[int, int]) -> list[tuple[int, tuple[int, ...]]]:
    """Rows that decode equally many frames go together: (frames, rows), shortest first.

    ``due`` maps rows to frames; zeros are left out.
    """
    groups: dict[int, list[int]] = {}
    for row, frames in sorted(due.items()):
        if frames:
            groups.setdefault(frames, []).append(row)
    return [(frames, tuple(groups[frames])) for frames in sorted(groups)]
