"""Faults of the fake engine strike the calls they were written for, and no others."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from vivavoce.errors import SettingsError
from vivavoce.testing.fake_engine import FakeEngine, FakeOptions, create
from vivavoce.testing.fake_faults import Faults, parse_faults
from vivavoce.types import ReferenceAudio, Span, Utterance

RECORDING = ReferenceAudio(np.zeros(2_400, np.float32), 24_000)
KINDS = {
    "raise": RuntimeError,
    "memory": MemoryError,
    "gpu_memory": RuntimeError,
    "device": RuntimeError,
    "exit": SystemExit,
}


def utterance(engine: FakeEngine, text: str = "hello") -> Utterance:
    return Utterance((Span(text),), engine_voice(), text_open=True)


def engine_voice():
    return FakeEngine().voices()[0]


CALLS: dict[str, Callable[[FakeEngine], object]] = {
    "check_files": lambda engine: engine.check_files(),
    "load": lambda engine: engine.load(),
    "unload": lambda engine: engine.unload(),
    "voices": lambda engine: engine.voices(),
    "validate": lambda engine: engine.validate(utterance(engine)),
    "clone": lambda engine: engine.clone(RECORDING),
    "voice_to_bytes": lambda engine: engine.voice_to_bytes(engine_voice()),
    "voice_from_bytes": lambda engine: engine.voice_from_bytes(b'{"pitch_hz": 1}'),
    "admit": lambda engine: engine.admit(utterance(engine)),
    "extend": lambda engine: engine.extend(engine.admit(utterance(engine)), "more"),
    "finish": lambda engine: engine.finish(engine.admit(utterance(engine))),
    "release": lambda engine: engine.release(0),
    "step": lambda engine: (engine.admit(utterance(engine)), engine.step()),
}


def struck(faults: Faults, calls: int, text: str = "") -> list[bool]:
    return [faults.strike("step", text) is not None for _ in range(calls)]


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_can_fail_in_every_way(method: str, kind: str) -> None:
    engine = create({"fault": f"{method}:{kind}@once"})
    assert isinstance(engine, FakeEngine)
    with pytest.raises(KINDS[kind]):
        CALLS[method](engine)
    CALLS[method](engine)


@pytest.mark.parametrize("method", CALLS)
def test_every_method_can_hang_until_it_is_let_go(method: str) -> None:
    engine = FakeEngine(FakeOptions(fault=f"{method}:hang"))
    thread = threading.Thread(target=CALLS[method], args=(engine,))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    engine.faults.let_go()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("", [True, True, True, True]),
        ("@once", [True, False, False, False]),
        ("@3", [False, False, True, False]),
        ("@3+", [False, False, True, True]),
    ],
)
def test_calls_are_counted(when: str, expected: list[bool]) -> None:
    assert struck(parse_faults(f"step:nan{when}"), 4) == expected


def test_only_calls_with_the_word_count() -> None:
    faults = parse_faults("step:nan@2~bad")
    assert struck(faults, 2, "good") == [False, False]
    assert struck(faults, 3, "a bad one") == [False, True, False]


def test_several_faults_stand_beside_each_other() -> None:
    faults = parse_faults("step:nan@once, step:shape@1, admit:wrong")
    assert [found.kind for _ in range(2) if (found := faults.strike("step"))] == ["nan", "shape"]
    found = faults.strike("admit")
    assert found is not None and found.kind == "wrong"


@pytest.mark.parametrize(
    "written", ["step", "step:", "nothing:raise", "step:nothing", "admit:nan", "step:raise@x", ":"]
)
def test_what_is_no_fault_is_refused(written: str) -> None:
    with pytest.raises(SettingsError):
        create({"fault": written})


def test_sound_without_an_end_goes_on_until_the_limit() -> None:
    engine = FakeEngine(FakeOptions(fault="step:endless", chunk_ms=1000))
    slot = engine.admit(Utterance((Span("x"),), engine_voice(), max_audio_s=5.0))
    pieces = [engine.step()[0] for _ in range(5)]
    assert {piece.slot for piece in pieces} == {slot}
    assert pieces[-1].finish_reason == "length"


def test_a_voice_can_be_no_number() -> None:
    engine = FakeEngine(FakeOptions(fault="clone:nan"))
    voice = engine.clone(RECORDING)
    engine.admit(Utterance((Span("x"),), voice))
    assert np.isnan(engine.step()[0].samples).all()
