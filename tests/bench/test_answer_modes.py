"""What callers wait, by when the server answers: against a server that plays into nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from vivavoce.bench.answer_modes import WAYS, Comparison
from vivavoce.bench.clients import Target
from vivavoce.bench.texts import TextSource
from vivavoce.cli.bench import bench
from vivavoce.errors import Unavailable, Unsupported
from vivavoce.testing.server import ServerProcess, vivavoce_server


@pytest.fixture(scope="module")
def desk() -> Iterator[ServerProcess]:
    """Makes sound three times as fast as it plays it, into a null sink."""
    environment = {"VIVAVOCE_PLAYBACK": "null", "VIVAVOCE_FAKE__STEP_MS": "25"}
    with vivavoce_server("--engine", "fake", environment=environment) as running:
        yield running


def test_whoever_waits_for_playback_waits_longest(desk: ServerProcess) -> None:
    comparison = Comparison(Target(desk.url), TextSource(["Good day to you."], repeat=True))
    asyncio.run(comparison.perform(1))
    waits = {answer.way: answer for answer in comparison.answers}
    assert list(waits) == list(WAYS)
    assert {answer.audio_s for answer in comparison.answers if answer.way != "start"} == {
        waits["done"].audio_s
    }
    assert waits["played"].waited_ms > 900 * waits["played"].audio_s
    assert waits["start"].waited_ms < waits["done"].waited_ms < waits["played"].waited_ms
    assert waits["stream"].waited_ms < waits["done"].waited_ms
    for answer in comparison.answers:
        parts = answer.breakdown
        assert parts is not None
        assert (parts.playback_ms > 0) == (answer.way == "played")
        summed = parts.queue_ms + parts.inference_ms + parts.playback_ms + parts.network_ms
        assert summed == pytest.approx(answer.waited_ms, abs=0.2)


def test_the_command_shows_and_stores_it(desk: ServerProcess, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(bench)
    path = tmp_path / "ways.json"
    ran = CliRunner().invoke(
        app,
        ["--url", desk.url, "--compare-playback", "-n", "1", "--text", "Hi.", "--json", str(path)],
    )
    assert ran.exit_code == 0, ran.output
    assert "a caller waits" in ran.output and "when played" in ran.output
    stored: dict[str, Any] = json.loads(path.read_text())
    assert stored["kind"] == "playback"
    assert set(stored["waited_ms"]) == set(WAYS)
    assert "api_key" not in stored["target"]


def test_each_request_is_shown_in_its_parts(desk: ServerProcess, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(bench)
    path = tmp_path / "each.json"
    command = ["--url", desk.url, "-n", "2", "--warmup", "0", "--text", "Hi.", "--each"]
    ran = CliRunner().invoke(app, [*command, "--json", str(path)])
    assert ran.exit_code == 0, ran.output
    assert "The parts of the time to the first byte" in ran.output
    assert "Each request, ms" in ran.output
    for measure in json.loads(path.read_text())["each"]:
        parts = measure["breakdown"]
        waited_ms = measure["first_byte_ms"] - measure["lag_ms"]
        assert parts["inference_ms"] > 20
        assert parts["queue_ms"] + parts["inference_ms"] < waited_ms + 0.2


def test_a_server_that_does_not_play_is_said(stand_in: Any) -> None:
    with pytest.raises(Unsupported, match="playback"):
        asyncio.run(Comparison(Target(stand_in.url)).perform(1))


def test_no_server_is_said() -> None:
    with pytest.raises(Unavailable):
        asyncio.run(Comparison(Target("http://127.0.0.1:9")).perform(1))
