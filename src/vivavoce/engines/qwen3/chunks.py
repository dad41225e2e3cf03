"""How many frames are decoded to sound at a time: one at first, then more and more.

The first sound leaves after one frame of 80 ms; later chunks are longer, because the codec costs
less a frame then and playback has a reserve to live on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
