"""How many frames are decoded to sound at a time: one at first, then more and more.

The first sound leaves after one frame of 80 ms; later chunks are longer, because the codec costs
less a frame then and playback has a reserve to live on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RAMP = (1, 2, 4, 8, 12)

SHORT, FEW_ROWS, MOST_ROWS = 2, 2, 8
"""Chunks of up to ``SHORT`` frames are decoded of ``FEW_ROWS`` rows at a time, others of
``MOST_ROWS``; more take turns. Rows begin one a step, so that few have a chunk of one length in the
same step, and of their first chunks hardly ever two."""


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


def rows_at_once(frames: int) -> int:
    """Of how many rows chunks of so many frames are decoded together."""
    return FEW_ROWS if frames <= SHORT else MOST_ROWS


def by_size(due: Mapping[int, int]) -> list[tuple[int, tuple[int, ...]]]:
    """Rows that decode equally many frames go together: (frames, rows), shortest first.

    ``due`` maps rows to frames; zeros are left out. At most ``rows_at_once`` are in a group.
    """
    groups: dict[int, list[int]] = {}
    for row, frames in sorted(due.items()):
        if frames:
            groups.setdefault(frames, []).append(row)
    return [
        (frames, tuple(groups[frames][first : first + rows_at_once(frames)]))
        for frames in sorted(groups)
        for first in range(0, len(groups[frames]), rows_at_once(frames))
    ]
