from __future__ import annotations

import itertools
import statistics

import pytest

from vivavoce.bench.load import poisson_times_s, schedule_s


def test_the_seed_fixes_the_times() -> None:
    assert schedule_s(5, 1, requests=20) == schedule_s(5, 1, requests=20)
    assert schedule_s(5, 1, requests=20) != schedule_s(5, 2, requests=20)


def test_gaps_are_exponential_at_the_rate_asked_for() -> None:
    times = list(itertools.islice(poisson_times_s(4.0, seed=3), 20_000))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(0.25, rel=0.03)
    # An exponential's deviation equals its mean; evenly spaced times would have none.
    assert statistics.stdev(gaps) == pytest.approx(0.25, rel=0.05)


def test_a_duration_and_a_count_both_end_it() -> None:
    times = schedule_s(10, 0, duration_s=2.0)
    assert times and times == sorted(times) and times[-1] < 2.0
    assert schedule_s(10, 0, duration_s=2.0, requests=3) == times[:3]


def test_an_endless_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="requests"):
        schedule_s(1, 0)
    with pytest.raises(ValueError, match="positive"):
        next(poisson_times_s(0, 0))
