"""The clients against the server itself, with the fake engine, in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from vivavoce.bench.clients import Target
from vivavoce.bench.heard import Listening
from vivavoce.bench.load import ClosedLoop
from vivavoce.bench.results import Setup
from vivavoce.bench.session import Outcome, Session
from vivavoce.bench.texts import TextSource
from vivavoce.testing.server import ServerProcess, vivavoce_server

WAYS = {
    "openai": {},
    "wav": {"response_format": "wav"},
    "pcm": {"path": "/v1/audio/speech/stream/pcm"},
    "ws": {"transport": "ws"},
    "phone": {"transport": "ws", "sample_rate_hz": 8000},
}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """One slot, one place to wait, sound in real time."""
    environment = {
        "VIVAVOCE_CAPACITY": "1",
        "VIVAVOCE_MAX_QUEUE_DEPTH": "1",
        "VIVAVOCE_AUDIO_CACHE_MAX": "0",
        "VIVAVOCE_FAKE__PACED": "true",
    }
    with vivavoce_server("--engine", "fake", environment=environment) as running:
        yield running


def measure(server: ServerProcess, way: str, load: ClosedLoop) -> Outcome:
    options: dict[str, Any] = WAYS[way]
    setup = Setup(Target(server.url, **options), load, Listening((1000.0,)))
    return asyncio.run(Session(setup, TextSource(["Good day."], repeat=True), warm_up=0).measure())


@pytest.mark.parametrize("way", WAYS)
def test_one_caller_hears_everything(server: ServerProcess, way: str) -> None:
    outcome = measure(server, way, ClosedLoop(requests=1))
    assert outcome.summary.clean, outcome.summary.errors
    (found,) = {measured.sample_rate_hz for measured in outcome.measures}
    assert found == (8000 if way == "phone" else 24_000)
    assert outcome.summary.audio_s > 0.4


@pytest.mark.parametrize("way", ["openai", "ws"])
def test_callers_too_many_are_told_when_to_try_again(server: ServerProcess, way: str) -> None:
    summary = measure(server, way, ClosedLoop(concurrency=6, requests=6)).summary
    assert summary.ok >= 1
    assert set(summary.errors) == {"busy"}
    assert summary.rejections.count == summary.rejections.with_retry_after > 0
