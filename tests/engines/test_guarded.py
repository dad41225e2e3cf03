"""What an engine raises outside of its own thread reaches its caller as a fixed sentence."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from vivavoce.engines.guarded import FAULT, GuardedEngine, is_sound
from vivavoce.errors import (
    EngineError,
    InputError,
    MissingExtra,
    ModelFileError,
    SetupError,
    VivavoceError,
)
from vivavoce.testing.fake_engine import FakeEngine, FakeOptions
from vivavoce.types import ReferenceAudio, Span, Utterance, Voice

SECRET = "four one one one"
RECORDING = ReferenceAudio(np.zeros(2_400, np.float32), 24_000, SECRET)
VOICE = FakeEngine().voices()[0]
HELLO = Utterance((Span(SECRET),), VOICE)
KINDS = ("raise", "memory", "gpu_memory", "exit")


def guarded(fault: str = "") -> GuardedEngine:
    return GuardedEngine(FakeEngine(FakeOptions(fault=fault)), lambda: None)


def call(engine: GuardedEngine, method: str) -> object:
    arguments: dict[str, tuple[Any, ...]] = {
        "voices": (),
        "validate": (HELLO,),
        "clone": (RECORDING,),
        "voice_to_bytes": (VOICE,),
        "voice_from_bytes": (b'{"pitch_hz": 1}',),
    }
    return getattr(engine, method)(*arguments[method])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "method", ["voices", "validate", "clone", "voice_to_bytes", "voice_from_bytes"]
)
def test_an_exception_is_not_told(method: str, kind: str, caplog) -> None:
    engine = guarded(f"{method}:{kind}@once")
    with caplog.at_level(logging.INFO), pytest.raises(EngineError) as caught:
        call(engine, method)
    assert caught.value.message == FAULT
    assert SECRET not in caplog.text
    assert method in caplog.text
    call(engine, method)


@pytest.mark.parametrize("method", ["voices", "clone", "voice_to_bytes"])
def test_a_result_that_the_contract_does_not_know_is_a_fault(method: str) -> None:
    with pytest.raises(EngineError) as caught:
        call(guarded(f"{method}:wrong"), method)
    assert caught.value.message == FAULT


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InputError("Not this.", param="x"), "Not this."),
        (EngineError("It broke off."), "It broke off."),
        (MissingExtra("Cloning", "qwen3"), MissingExtra("Cloning", "qwen3").message),
        (ModelFileError("/data/model.bin is damaged."), FAULT),
        (SetupError("/etc is wrong."), FAULT),
    ],
)
def test_what_is_meant_for_callers_passes_and_what_names_this_machine_does_not(
    error: VivavoceError, told: str, caplog
) -> None:
    inner = FakeEngine()

    def clone(reference: ReferenceAudio) -> Voice:
        raise error

    inner.clone = clone  # type: ignore[method-assign]
    with pytest.raises(VivavoceError) as caught:
        GuardedEngine(inner, lambda: None).clone(RECORDING)
    assert caught.value.message == told
    assert told != FAULT or error.message in caplog.text


def test_a_damaged_voice_file_is_said_to_be_one() -> None:
    with pytest.raises(ModelFileError):
        guarded().voice_from_bytes(b"nonsense")


def test_an_interrupt_is_nobodys_fault() -> None:
    inner = FakeEngine()

    def interrupted(utterance: Utterance) -> None:
        raise KeyboardInterrupt

    inner.validate = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        GuardedEngine(inner, lambda: None).validate(HELLO)


def test_voices_are_read_with_the_load_and_remembered() -> None:
    engine = guarded("voices:hang@2+")
    engine.load()
    assert engine.voices()[0].id == "alto"
    assert engine.voices()[0].id == "alto", "the second list would hang"


def test_a_device_that_fails_in_what_was_wrapped_is_lost_too() -> None:
    lost: list[bool] = []
    engine = GuardedEngine(FakeEngine(), lambda: lost.append(True))
    wrapped = EngineError("The codec failed.")
    wrapped.__cause__ = RuntimeError("CUDA error: unspecified launch failure")
    assert engine.for_caller("step", wrapped) is wrapped
    assert lost == [True]


@pytest.mark.parametrize(
    ("samples", "sound"),
    [
        (np.zeros(3, np.float32), True),
        (np.zeros(0, np.float32), True),
        (np.zeros((1, 3), np.float32), False),
        (np.float32(1.0), False),
        (np.zeros(3, np.float64), False),
        (np.zeros(3, np.int16), False),
        ([0.0, 0.0], False),
        (None, False),
    ],
)
def test_sound_is_one_dimension_of_float32(samples: object, sound: bool) -> None:
    assert is_sound(samples) is sound
