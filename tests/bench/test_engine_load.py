"""Load on an engine without a server, over the engine of tones."""

from __future__ import annotations

import pytest

from vivavoce.bench.engine_load import EngineLoad
from vivavoce.engines.base import Engine
from vivavoce.engines.registry import create_engine
from vivavoce.errors import EngineError
from vivavoce.types import Span, Utterance


def fake(**options: object) -> Engine:
    engine = create_engine("fake", options)
    engine.load()
    return engine


def load_on(engine: Engine, text: str = "Hello.") -> EngineLoad:
    return EngineLoad(engine, lambda number: Utterance((Span(text),), engine.voices()[0]))


def test_every_call_that_came_is_heard_to_its_end() -> None:
    engine = fake(capacity=2)
    told = load_on(engine).open_loop(200.0, 0.05, seed=3)
    assert told["calls"] == told["first_sound_ms"]["count"] > 2
    assert told["first_audible_ms"]["count"] == told["calls"]
    assert told["first_audible_ms"]["p50"] >= told["first_sound_ms"]["p50"]
    assert told["audio_s_per_s"] > 0
    assert engine.step() == []


def test_callers_call_again_until_the_end_and_leave_nothing() -> None:
    engine = fake(capacity=3)
    told = load_on(engine).closed_loop(3, 0.05)
    assert told["calls"] >= 3
    assert engine.step() == []


def test_a_run_tells_of_its_own_calls_only() -> None:
    load = load_on(fake(capacity=2))
    assert load.open_loop(100.0, 0.05, seed=3)["calls"] > 1
    assert load.open_loop(0.001, 0.01)["calls"] == 0


def test_a_stall_is_counted() -> None:
    engine = fake(capacity=1, step_ms=30.0, chunk_ms=10.0)
    told = load_on(engine, "Hello there, everybody.").open_loop(100.0, 0.02, seed=1)
    assert told["underruns"] > 0 and told["longest_stall_ms"] > 1


def test_nobody_came() -> None:
    told = load_on(fake(capacity=1)).open_loop(0.001, 0.01)
    assert told["calls"] == 0 and told["first_sound_ms"] == told["first_audible_ms"] == {}


def test_a_failed_call_is_not_a_quiet_one() -> None:
    with pytest.raises(EngineError):
        load_on(fake(capacity=1), "Hello failword.").closed_loop(1, 0.5)
