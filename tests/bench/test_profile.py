from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from vivavoce.bench.profiling import Profiler, Sample, _frames_per_s, profile_length, take_sample
from vivavoce.bench.texts import TextSource
from vivavoce.cli import speaking
from vivavoce.cli.profile import profile
from vivavoce.engines.base import EngineInfo
from vivavoce.errors import InputError
from vivavoce.settings import Settings
from vivavoce.types import AudioChunk, Timings

app = typer.Typer()
app.command()(profile)


class Chunks:
    def __init__(self) -> None:
        self.timings = Timings()
        self.closed = False

    def __iter__(self) -> Iterator[AudioChunk]:
        yield AudioChunk(np.zeros(0, np.float32), 1000)
        self.timings.normalize_ms = 1.5
        self.timings.stages_ms["encoder"] = 7.0
        self.timings.tokens, self.timings.first_token_ms = 50, 0.01
        yield AudioChunk(np.zeros(500, np.float32), 1000)
        yield AudioChunk(np.zeros(500, np.float32), 1000, last=True)

    def close(self) -> None:
        self.closed = True


class Hushed(Chunks):
    """A second of silence before a second that is heard."""

    def __iter__(self) -> Iterator[AudioChunk]:
        yield AudioChunk(np.zeros(1000, np.float32), 1000)
        yield AudioChunk(np.full(1000, 0.1, np.float32), 1000, last=True)


class Stub:
    """Speaks one second of silence for anything."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.settings = Settings()
        self.streams: list[Chunks] = []
        self.closed = False
        self.info = EngineInfo("stub", "small", 1000, device="abacus")

    def stream(self, text: str, **how: Any) -> Chunks:
        self.asked.append((text, how))
        self.streams.append(Chunks())
        return self.streams[-1]

    def __enter__(self) -> Stub:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    made = Stub()

    def open_synthesizer(settings: Settings) -> Stub:
        made.settings = settings
        return made

    monkeypatch.setattr(speaking, "open_synthesizer", open_synthesizer)
    return made


def test_every_length_is_measured_in_turn() -> None:
    stub = Stub()
    texts = {kind: TextSource([kind], repeat=True) for kind in ("short", "long")}
    found = Profiler(texts, 2, {"seed": 3}).profile(lambda: stub)
    assert found.peak_memory_mb > 1
    assert found.frames_per_s is None
    assert [text for text, _ in stub.asked] == ["short", "short", "long", "short", "long"]
    assert all(how == {"seed": 3} for _, how in stub.asked)
    assert all(stream.closed for stream in stub.streams)
    short, long = found.lengths
    assert (short.kind, long.kind) == ("short", "long")
    assert short.audio_s is not None and (short.audio_s.count, short.audio_s.p50) == (2, 1.0)
    assert list(short.stages_ms) == ["normalise", "queue", "encoder"]
    assert short.stages_ms["encoder"] is not None and short.stages_ms["encoder"].max == 7.0
    assert found.cold.audio_s == 1.0


def test_the_first_audible_sample_is_measured_beside_the_first_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Silence in front of it has to be played first; silence alone is never heard."""
    silent = take_sample(Stub(), "text", {})
    assert silent.audible_ms is None and silent.first_chunk_ms > 0
    stub = Stub()
    monkeypatch.setattr(stub, "stream", lambda text, **how: Hushed())
    heard = take_sample(stub, "text", {})
    assert heard.audible_ms is not None
    assert heard.audible_ms == pytest.approx(heard.first_chunk_ms + 1000)
    assert profile_length("x", [silent, heard]).audible_ms is not None


def test_a_stage_some_runs_lack_is_not_counted_as_zero() -> None:
    samples = [Sample(1, 1.0, {"a": 5.0}, 1.0, 2.0), Sample(1, 0.0, {}, 1.0, 2.0)]
    length = profile_length("x", samples)
    assert length.stages_ms["a"] is not None and length.stages_ms["a"].count == 1
    assert length.rtf is not None and (length.rtf.count, length.rtf.max) == (1, 0.002)
    assert length.first_token_ms is None and length.tokens_per_s is None


def test_tokens_a_second_count_from_the_first_token() -> None:
    length = profile_length("x", [Sample(1, 1.0, {}, 30.0, 220.0, tokens=11, first_token_ms=20.0)])
    assert length.first_token_ms is not None and length.first_token_ms.p50 == 20.0
    assert length.tokens_per_s is not None and length.tokens_per_s.p50 == 50.0


def test_the_command(stub: Stub, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    arguments = ["-e", "fake", "-n", "2", "--model", "m", "--set", "fake.capacity=2"]
    arguments += ["--option", "depth=2", "--option", "name=joe", "--voice", "v"]
    result = CliRunner().invoke(app, [*arguments, "--json", str(path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "encoder, ms" in result.output and "1.0 s of sound" in result.output
    assert "first token, ms" in result.output and "tokens a second" in result.output
    assert "stub (small) on abacus" in result.output
    assert (stub.settings.engine, stub.settings.model_id) == ("fake", "m")
    assert stub.settings.engine_options["capacity"] == "2"
    assert stub.asked[0][1] == {"voice": "v", "options": {"depth": 2, "name": "joe"}}
    assert stub.closed
    stored = json.loads(path.read_text())
    assert (stored["engine"], stored["model"], stored["device"]) == ("stub", "small", "abacus")
    assert [length["kind"] for length in stored["lengths"]] == [
        "two_words",
        "short",
        "medium",
        "long",
    ]
    assert stored["lengths"][0]["stages_ms"]["encoder"]["p50"] == 7.0


def test_own_texts_replace_the_built_in_ones(stub: Stub) -> None:
    CliRunner().invoke(app, ["-n", "1", "--text", "Mine."], catch_exceptions=False)
    assert [text.endswith(", Mine.") for text, _ in stub.asked] == [True, True]


def test_an_option_without_a_value_is_refused(stub: Stub) -> None:
    result = CliRunner().invoke(app, ["--option", "threads"])
    assert isinstance(result.exception, InputError)


def test_frames_a_second_are_told_where_the_engine_knows_its_frames() -> None:
    info = EngineInfo("stub", "small", 1000, details={"frame_rate_hz": 12.5})
    samples = [Sample(1, 2.0, {}, 0.0, total_ms) for total_ms in (1_000.0, 2_000.0, 4_000.0)]
    assert _frames_per_s(info, samples) == 12.5
    assert _frames_per_s(info, []) is None
