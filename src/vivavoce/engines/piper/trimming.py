"""Context that is let go as soon as it has served.

A window is computed with context on both sides, as wide as the whole graph looks. What follows
a tensor in the middle looks less far, so most of the context can be cut off there: in a decoder
the expensive last stages need a fraction of a frame. The values that stay are the same, up to the
order of sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TO_THE_END = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Trim:
    """A place to cut: ``need`` steps of context stay on each side; a frame has ``factor`` steps."""

    factor: int
    need: int


@dataclass(frozen=True, slots=True)
class Margins:
    """Context on the two sides of what is wanted, in frames."""

    left: int
    right: int


def trim_feed(trims: Sequence[Trim], margins: Margins) -> dict[str, NDArray[np.int64]]:
    """What a graph with these cuts has to be given for a window with these margins."""
    feed: dict[str, NDArray[np.int64]] = {}
    left, right, factor = margins.left, margins.right, 1
    for number, trim in enumerate(trims):
        left, right = left * trim.factor // factor, right * trim.factor // factor
        off_left, off_right = max(0, left - trim.need), max(0, right - trim.need)
        feed[f"trim_start_{number}"] = np.array([off_left], np.int64)
        feed[f"trim_end_{number}"] = np.array([-off_right or TO_THE_END], np.int64)
        left, right, factor = left - off_left, right - off_right, trim.factor
    return feed


def left_over(trims: Sequence[Trim], margins: Margins, factor: int) -> Margins:
    """The context that is still around the output, in its steps, ``factor`` a frame."""
    left, right, fine = margins.left, margins.right, 1
    for trim in trims:
        left = min(left * trim.factor // fine, trim.need)
        right = min(right * trim.factor // fine, trim.need)
        fine = trim.factor
    return Margins(left * factor // fine, right * factor // fine)


def trims_from(facts: Sequence[Mapping[str, int]]) -> tuple[Trim, ...]:
    """Read what was kept beside the graphs. Raises KeyError, TypeError."""
    return tuple(Trim(int(fact["factor"]), int(fact["need"])) for fact in facts)
