"""Guards of engines with a language model: silence, and loops found code by code."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.engines.neutts import utterance as of_neutts
from vivavoce.engines.qwen3 import row_speech as of_qwen3
from vivavoce.engines.utterance import RepetitionWindow, SilenceGuard

SHARE = 0.95


def compared(codes: Sequence[int], window: int, periods: int) -> bool:
    """What the window counts, by comparing all of it anew: as it was computed before."""
    if len(codes) < window + periods:
        return False
    known = np.array(codes[-window - periods :])
    latest = known[-window:]
    return any(
        bool(np.mean(latest == known[-window - period : -period]) >= SHARE)
        for period in range(1, periods + 1)
    )


def assert_alike(codes: Sequence[int], window: int, periods: int) -> None:
    counted = RepetitionWindow(window, periods, SHARE)
    for at, code in enumerate(codes, start=1):
        counted.add(code)
        assert counted.looping == compared(codes[:at], window, periods), at


def disturbed(period: int, length: int, share: float, alphabet: int, seed: int) -> list[int]:
    """A loop in which a ``share`` of the codes is another one."""
    rng = random.Random(seed)
    loop = [rng.randrange(alphabet) for _ in range(period)]
    return [
        rng.randrange(alphabet) if rng.random() < share else loop[at % period]
        for at in range(length)
    ]


LOOPS = st.builds(
    disturbed,
    st.integers(1, 30),
    st.integers(60, 200),
    st.sampled_from((0.0, 0.02, 0.04, 0.06, 0.1, 1.0)),
    st.sampled_from((1, 2, 3, 40, 2048)),
    st.integers(0, 2**32),
)
TURNS = st.lists(LOOPS, min_size=1, max_size=3).map(lambda parts: [*chain(*parts)])


@given(TURNS)
def test_the_verdicts_of_qwen3_are_those_of_comparing(codes: list[int]) -> None:
    guard = of_qwen3.loop_guard()
    window, periods = of_qwen3.LOOP_FRAMES, of_qwen3.LOOP_PERIODS
    for at, code in enumerate(codes, start=1):
        assert guard.push([code]) == compared(codes[:at], window, periods), at


@given(LOOPS, st.integers(1, 40))
def test_the_verdicts_of_neutts_are_those_of_comparing(codes: list[int], piece: int) -> None:
    codes = codes * 3
    guard, unseen = of_neutts.loop_guard(), 0
    window, periods = of_neutts.LOOP_CODES, of_neutts.LOOP_PERIODS
    for at in range(0, len(codes), piece):
        given_ = codes[at : at + piece]
        unseen += len(given_)
        wanted = False
        if unseen >= of_neutts.LOOK_EVERY and at + len(given_) >= window + periods:
            unseen, wanted = 0, compared(codes[: at + len(given_)], window, periods)
        assert guard.push(given_) == wanted, at


@given(st.integers(1, 9), st.integers(1, 6), st.lists(st.integers(0, 2), min_size=1, max_size=60))
def test_windows_of_any_size(window: int, periods: int, codes: list[int]) -> None:
    assert_alike(codes, window, periods)


@pytest.mark.parametrize("period", [1, 2, 24, 25, 26])
@pytest.mark.parametrize("wrong", [2, 3])
def test_two_of_fifty_may_differ_and_three_may_not(period: int, wrong: int) -> None:
    """At both ends of the window, where a count by one too many or too few would show."""
    loop = [100 + at % period for at in range(75)]
    for places in ((25, 50, 74), (26, 49, 73), (25, 26, 27)):
        codes = [*loop]
        for number, place in enumerate(places[:wrong]):
            codes[place] = 500 + number
        assert_alike(codes + loop, 50, 25)


def kinds() -> list[Callable[[int], int]]:
    return [lambda at: 7, lambda at: at, lambda at: at % 2, lambda at: at % 26]


@pytest.mark.parametrize("code_at", kinds())
def test_it_keeps_no_more_than_its_periods_however_long_it_runs(
    code_at: Callable[[int], int],
) -> None:
    counted = RepetitionWindow(50, 25, SHARE)
    for at in range(5_000):
        counted.add(code_at(at))
    assert counted.length == 5_000 and len(counted._seen) <= 25


RATE_HZ = 24_000
FRAME = 1920


def frames(count: int, peak: float) -> list[np.ndarray]:
    return [np.full(FRAME, peak, np.float32)] * count


@pytest.mark.parametrize(("silent", "ends"), [(25, False), (37, False), (38, True)])
def test_silence_ends_it_after_three_seconds(silent: int, ends: bool) -> None:
    guard = SilenceGuard(RATE_HZ)
    assert not any(guard.push(each) for each in frames(3, 0.2))
    assert any(guard.push(each) for each in frames(silent, 0.0001)) is ends


def test_speech_between_pauses_goes_on() -> None:
    guard = SilenceGuard(RATE_HZ)
    pattern = [*frames(30, 0.0), *frames(1, 0.1)] * 3
    assert not any(guard.push(each) for each in pattern)
