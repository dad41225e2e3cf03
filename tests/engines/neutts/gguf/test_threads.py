"""Threads of a token: few beside the codec, else what is measured to be sooner."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vivavoce.engines.neutts.gguf.threads import (
    FIRST_TRUST,
    TRIALS,
    DecodeThreads,
    Threads,
    default_threads,
)

TWO_CORES = Threads(1, 2, 2)


def taken(choice: DecodeThreads, steps: int, seconds: Callable[[int], float]) -> list[int]:
    """Run so many steps alone; the threads of each."""
    found = []
    for _ in range(steps):
        threads = choice.choose(1, codec_runs=False)
        choice.took(1, seconds(threads), codec_runs=False)
        found.append(threads)
    return found


@pytest.mark.parametrize(("one_s", "two_s", "kept"), [(0.02, 0.012, 2), (0.005, 0.006, 1)])
def test_the_quicker_number_is_kept(one_s: float, two_s: float, kept: int) -> None:
    found = taken(DecodeThreads(TWO_CORES), 2 * TRIALS + 50, lambda n: one_s if n == 1 else two_s)
    assert set(found[: 2 * TRIALS]) == {1, 2}
    assert set(found[2 * TRIALS :]) == {kept}


def test_beside_the_codec_few_threads_compute_and_nothing_is_learnt() -> None:
    choice = DecodeThreads(TWO_CORES)
    assert {choice.choose(1, codec_runs=True) for _ in range(20)} == {1}
    choice.took(1, 99.0, codec_runs=True)
    assert taken(choice, 100, lambda n: 0.01 / n)[-1] == 2


def test_a_machine_that_has_become_busy_is_noticed() -> None:
    choice = DecodeThreads(TWO_CORES)
    assert taken(choice, 6_000, lambda n: 0.01 / n)[-1] == 2
    found = taken(choice, FIRST_TRUST, lambda n: 0.01 if n == 1 else 0.1)
    assert found[-1] == 1
    assert found.count(2) <= 4 * TRIALS


def test_what_stays_slower_is_tried_ever_more_rarely() -> None:
    found = taken(DecodeThreads(TWO_CORES), 20_000, lambda n: 0.005 * n)
    assert found[:2000].count(2) < 60
    assert found[10_000:].count(2) < 6 * TRIALS


def test_rows_are_told_apart() -> None:
    choice = DecodeThreads(TWO_CORES)
    taken(choice, 40, lambda n: 0.01 * n)
    assert choice.choose(1, codec_runs=False) == 1
    assert choice.choose(4, codec_runs=False) == 2


def test_a_fixed_number_stays() -> None:
    assert set(taken(DecodeThreads(Threads(3, 4)), 200, lambda n: 0.01)) == {3}


@pytest.mark.parametrize(
    ("cores", "threads"),
    [(1, Threads(1, 1, 1)), (2, TWO_CORES), (4, Threads(2, 3, 3)), (16, Threads(4, 8, 8))],
)
def test_default_threads_leave_room(cores: int, threads: Threads) -> None:
    assert default_threads(cores) == threads
