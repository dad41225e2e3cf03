"""Sizes that are captured: work of any size runs in the next larger one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

BATCH_BUCKETS = (1, 2, 4, 8, 12, 16, 24, 32, 64)
"""Rows of a batch, or of a chunk of sound."""

LENGTH_BUCKETS = (16, 32, 64)
"""Positions of a piece of a prompt: as many rows as kernels multiply, and no longer than those who
speak can wait for it. Fewer than 16 take as long: weights are read once, and tensor cores take 16
at a time."""


def buckets_to(most: int, buckets: Sequence[int]) -> tuple[int, ...]:
    """Those below ``most``, and ``most`` itself. ``buckets`` ascend."""
    return (*buckets[: bisect_left(buckets, most)], most)


def bucket_over(count: int, buckets: Sequence[int]) -> int | None:
    """The smallest bucket that holds ``count``; None where none does."""
    place = bisect_left(buckets, count)
    return buckets[place] if place < len(buckets) else None
