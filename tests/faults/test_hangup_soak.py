"""Callers who hang up at any moment leave nothing behind, and the next call is normal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from faults.inprocess import InnerServer, serving_here
from faults.rawcalls import CALLERS, TEXTS, Call, Kind, Phase, Transport, hang_up_all, random_calls
from faults.residue import Residue, normal_call, process_residue
from quality.live import serving, settled

SLOW_STEPS = {"step_ms": 4.0}


def soak(url: str, port: int, look: Callable[[], Residue], calls: list[Call]) -> None:
    before_sound = normal_call(url)
    # Pools grow to their size with the first calls; what counts is what the others leave.
    clones = [Call(Transport.HTTP, Phase.AT_END, False, "Hi.", kind=Kind.CLONE)] * 2 * CALLERS
    asyncio.run(hang_up_all(port, random_calls(2 * CALLERS, TEXTS, seed=0) + clones))
    settled(look, lambda seen: seen.running == 0)
    before = look()
    answered = asyncio.run(hang_up_all(port, calls))
    after = settled(look, lambda seen: seen.within(before))
    assert after.within(before), f"{after} is left, where there was {before}"
    assert answered > 0
    assert normal_call(url) == before_sound


def inner(tmp_path: Path, calls: list[Call]) -> None:
    with serving_here(tmp_path, capacity=6, max_queue_depth=0, fake=SLOW_STEPS) as server:
        soak(server.url, server.port, server.residue, calls)


def test_two_hundred_hang_ups_leave_nothing(tmp_path: Path) -> None:
    inner(tmp_path, random_calls(200, TEXTS, seed=1))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_hang_ups_leave_nothing(tmp_path: Path) -> None:
    inner(tmp_path, random_calls(1_000, TEXTS, seed=2))


def test_a_server_process_is_left_clean(tmp_path: Path) -> None:
    settings = {"capacity": 6, "max_queue_depth": 0, "audio_cache_max": 0, "fake.step_ms": 4}
    with serving("fake", settings) as live:
        soak(live.url, live.port, lambda: process_residue(live), random_calls(100, TEXTS, seed=3))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_thousand_hang_ups_on_piper_leave_nothing() -> None:
    settings = {"capacity": 8, "max_queue_depth": 0, "audio_cache_max": 0}
    with serving("piper", settings) as live:
        soak(live.url, live.port, lambda: process_residue(live), random_calls(1_000, TEXTS, seed=4))


def test_the_yardstick_sees_a_slot_that_is_held(tmp_path: Path) -> None:
    """The soak would fail if a slot leaked: here one is held on purpose."""
    with serving_here(tmp_path, fake={"paced": True}) as server:
        before = server.residue()
        with held(server):
            assert not server.residue().within(before)


@contextmanager
def held(server: InnerServer) -> Iterator[None]:
    """A call that has begun and is not read."""
    body = {"input": "A long while. " * 5}
    with (
        httpx.Client(base_url=server.url, trust_env=False) as client,
        client.stream("POST", "/v1/audio/speech/stream/pcm", json=body),
    ):
        yield
