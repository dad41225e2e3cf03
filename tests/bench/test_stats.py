from __future__ import annotations

import pytest

from vivavoce.bench.stats import Distribution, percentile, spread


def test_percentiles_are_measured_values() -> None:
    ordered = [float(value) for value in range(1, 101)]
    assert [percentile(ordered, p) for p in (0, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]
    assert percentile([7.0], 50) == 7.0
    assert percentile([1.0, 2.0], 51) == 2.0


def test_a_distribution_ignores_what_was_not_measured() -> None:
    assert Distribution.of([3.0, None, 1.0]) == Distribution(2, 2.0, 1.0, 3.0, 3.0, 3.0)
    assert Distribution.of([None]) is None


def test_a_spread_of_nothing_is_an_error() -> None:
    assert spread([2.0, None])["max"] == 2.0
    with pytest.raises(ValueError, match="nothing"):
        spread([None])
