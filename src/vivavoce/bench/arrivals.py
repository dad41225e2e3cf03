"""When requests are due in an open loop: a Poisson process, fixed by its seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator


def poisson_times_s(rate_per_s: float, seed: int) -> Iterator[float]:
    """Endless due times in seconds from the start, ascending, at ``rate_per_s`` on average.

    The gaps are exponential, so callers bunch as independent callers do.
    """
    if rate_per_s <= 0:
        raise ValueError("rate_per_s must be positive")
    draw = random.Random(seed)
    due_s = 0.0
    while True:
        due_s += draw.expovariate(rate_per_s)
        yield due_s


def schedule_s(
    rate_per_s: float, seed: int, *, requests: int | None = None, duration_s: float | None = None
) -> list[float]:
    """The due times of one run: at most ``requests`` of them, all before ``duration_s``."""
    if requests is None and duration_s is None:
        raise ValueError("give requests, duration_s or both")
    times = poisson_times_s(rate_per_s, seed)
    if duration_s is not None:
        end_s = duration_s
        times = itertools.takewhile(lambda due_s: due_s < end_s, times)
    return list(itertools.islice(times, requests))
