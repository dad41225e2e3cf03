"""Mixed traffic leaves a server as it was, and the judgement sees a server that leaks."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from faults.traffic import Account, Sample, Traffic, Verdict, judge, look, second_half_growth
from quality.live import COMMAND, serving, settled

SETTINGS = {"capacity": 6, "max_queue_depth": 8, "audio_cache_max": 16, "fake.step_ms": 2}
LEAKY = (sys.executable, str(Path(__file__).parent / "leaky.py"))


def soak(seconds: float, seed: int, command: Sequence[str] = COMMAND) -> tuple[Account, Verdict]:
    """Run the traffic against a server of its own and judge what it left."""
    with serving("fake", SETTINGS, command) as live:
        asyncio.run(Traffic(live, seed + 1).run(min(seconds, 10)))  # pools grow to their size
        account = asyncio.run(Traffic(live, seed).run(seconds))
        began_s = time.monotonic()
        idle = settled(lambda: look(live, began_s), lambda seen: seen.running + seen.waiting == 0)
        return account, judge(account, idle)


def test_a_few_seconds_of_every_kind_of_caller_go_well() -> None:
    account, verdict = soak(8, seed=1)
    assert account.faults == []
    assert sum(account.done.values()) > 20
    assert [one for one in verdict.complaints if "memory" not in one] == []  # too short to tell


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_minutes_of_mixed_traffic_leave_nothing() -> None:
    account, verdict = soak(120, seed=2)
    assert verdict.complaints == ()
    assert len(account.done) == 6, "every kind of caller was there"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_server_that_leaks_is_found_out() -> None:
    _, verdict = soak(30, seed=3, command=LEAKY)
    assert any("memory grew" in one for one in verdict.complaints)


def samples(*rss_bytes: int, descriptors: int = 10) -> list[Sample]:
    """One sample a second."""
    return [Sample(float(at), size, 4, descriptors, 0, 0) for at, size in enumerate(rss_bytes)]


def test_growth_is_that_of_the_second_half() -> None:
    flat = [(float(at), 100) for at in range(20)]
    early = [(float(at), 100 if at >= 10 else at * 10) for at in range(20)]
    late = [(float(at), 100 + max(at - 10, 0)) for at in range(20)]
    assert abs(second_half_growth(flat)) < 1e-9
    assert abs(second_half_growth(early)) < 1e-9
    assert second_half_growth(late) == pytest.approx(9 / 104.5)


@pytest.mark.parametrize(
    ("account", "idle", "said"),
    [
        (Account(samples=samples(100, 100, 100, 110)), samples(100)[0], "memory grew"),
        (Account(samples=samples(*[100] * 6)), Sample(9, 100, 4, 10, 1, 0), "still taken"),
        (Account(samples=samples(*[100] * 6)), Sample(9, 100, 4, 10, 0, 2), "still taken"),
        (Account(samples=samples(*[100] * 6)), Sample(9, 100, 4, 11, 0, 0), "11 descriptors"),
        (Account(samples=samples(*[100] * 6)), Sample(9, 100, 5, 10, 0, 0), "5 threads"),
        (Account(faults=["normal: cut"], samples=samples(100, 100)), samples(1)[0], "cut"),
    ],
)
def test_each_thing_that_is_left_is_a_complaint(account: Account, idle: Sample, said: str) -> None:
    verdict = judge(account, idle)
    assert len(verdict.complaints) == 1
    assert said in verdict.complaints[0]


def test_nothing_left_is_no_complaint() -> None:
    verdict = judge(Account(samples=samples(*[100] * 6)), samples(100)[0])
    assert verdict == Verdict((), pytest.approx(0.0))
