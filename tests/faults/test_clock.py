"""A wall clock that jumps alters nothing: every duration is measured with the monotonic one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from faults.inprocess import InnerServer, serving_here
from quality.live import metric, settled

YEAR_S = 365 * 86_400.0
JUMPS_S = (0.0, YEAR_S, -YEAR_S, 3_600.0, -3_600.0, -20 * YEAR_S)
TEXT = "Whatever the clock says, this takes as long as it takes. And then there is one more."


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the wall clock finds it somewhere else."""
    real, jumps = time.time, itertools.cycle(JUMPS_S)
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[InnerServer]:
    limits = {"capacity": 2, "request_timeout_s": 30.0, "stall_timeout_s": 10.0, "max_step_s": 20.0}
    options = {"paced": True, "chunk_ms": 40.0}
    with serving_here(tmp_path, fake=options, idle_timeout_s=30.0, **limits) as live:  # type: ignore[arg-type]
        yield live


def speak(server: InnerServer) -> bytes:
    body = {"input": TEXT, "response_format": "pcm"}
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        return client.post("/v1/audio/speech", json=body).raise_for_status().content


def test_calls_and_those_who_wait_are_served_as_ever(
    server: InnerServer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    before = speak(server)
    request.getfixturevalue("jumping")
    with ThreadPoolExecutor(5) as callers:
        heard = list(callers.map(lambda _: speak(server), range(5)))  # three wait in the queue
    assert heard == [before] * 5
    monkeypatch.undo()
    told = httpx.get(f"{server.url}/metrics", trust_env=False).text
    assert metric(told, "tts_requests_total", outcome="ok") == 6
    assert metric(told, "tts_requests_total") == 6
    assert 0 < metric(told, "tts_queue_seconds_sum") < 60
    assert 0 < metric(told, "tts_time_to_first_audio_seconds_sum") < 120
    assert httpx.get(f"{server.url}/livez", trust_env=False).status_code == 200


def test_a_start_an_idle_unload_and_a_stop_are_not_disturbed(jumping: None, tmp_path: Path) -> None:
    with serving_here(tmp_path, idle_timeout_s=0.05) as server:
        assert settled(lambda: server.service.lifecycle.state, lambda s: s == "unloaded")
        speak(server)
        assert settled(lambda: server.service.lifecycle.state, lambda s: s == "unloaded")
        assert httpx.get(f"{server.url}/readyz", trust_env=False).status_code == 200


def test_a_step_that_is_late_is_seen_by_the_monotonic_clock(jumping: None, tmp_path: Path) -> None:
    fault = {"fault": "step:hang~hangword"}
    with serving_here(tmp_path, fake=fault, max_step_s=0.3) as server:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
            answer = client.post("/v1/audio/speech", json={"input": "hangword"})
        assert answer.status_code == 503
        assert "given up" in answer.json()["error"]["message"]
        server.engine.faults.let_go()
