"""Percentiles and the small table row they make."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of an ascending, non-empty sequence.

    Always a value that was measured: the smallest that at least ``percent`` per cent do not exceed.
    """
    rank = math.ceil(percent / 100 * len(ordered))
    return ordered[max(rank, 1) - 1]


@dataclass(frozen=True, slots=True)
class Distribution:
    """How a figure is spread over a run; in the unit that its name carries."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Distribution | None:
        """The distribution of what was measured; None where nothing was."""
        ordered = sorted(value for value in values if value is not None)
        if not ordered:
            return None
        return cls(
            count=len(ordered),
            mean=math.fsum(ordered) / len(ordered),
            p50=percentile(ordered, 50),
            p95=percentile(ordered, 95),
            p99=percentile(ordered, 99),
            max=ordered[-1],
        )


def spread(values: Iterable[float | None]) -> dict[str, float]:
    """A distribution as a mapping, for JSON. Raises ValueError if nothing was measured."""
    distribution = Distribution.of(values)
    if distribution is None:
        raise ValueError("nothing was measured")
    return asdict(distribution)


def spread_ms(values: Iterable[float | None]) -> dict[str, float]:
    """Milliseconds, to the hundredth; empty where nothing was measured."""
    distribution = Distribution.of(values)
    if distribution is None:
        return {}
    return {name: round(value, 2) for name, value in asdict(distribution).items()}
