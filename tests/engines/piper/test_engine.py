"""The Piper engine behind the contract: order, cancel, faults, options of an utterance."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivavoce.engines.piper import create
from vivavoce.engines.piper.engine import PiperEngine
from vivavoce.engines.piper.model import VoiceModel
from vivavoce.engines.piper.options import PiperOptions
from vivavoce.errors import (
    EngineError,
    InputError,
    MissingExtra,
    SettingsError,
    UnknownVoice,
    Unsupported,
)
from vivavoce.types import Sampling, Span, Utterance, Voice

SEEDED = Sampling(seed=3)


def utterance(engine: PiperEngine, text: str, **changes: Any) -> Utterance:
    base = Utterance((Span(text),), engine.voices()[0], sampling=SEEDED)
    return dataclasses.replace(base, **changes)


def run(engine: PiperEngine, *slots: int) -> dict[int, Any]:
    """Step until the slots have ended: slot -> its sound, or the error."""
    sound: dict[int, list[Any]] = {slot: [] for slot in slots}
    ended: dict[int, Any] = {}
    while len(ended) < len(slots):
        for piece in engine.step():
            sound[piece.slot].append(piece.samples)
            if piece.last:
                ended[piece.slot] = piece.error or np.concatenate(sound[piece.slot])
    return ended


def say(engine: PiperEngine, text: str, **changes: Any) -> Any:
    slot = engine.admit(utterance(engine, text, **changes))
    return run(engine, slot)[slot]


def test_info_tells_who_speaks(engine: PiperEngine) -> None:
    assert engine.info.name == "piper"
    assert engine.info.model == engine.info.default_voice == "en_US-joe-medium"
    assert engine.info.sample_rate_hz == 22_050
    assert engine.info.device == "cpu"
    assert engine.info.languages == ("en",)
    assert engine.info.details["sha256"].startswith("58afce03")
    assert engine.capacity == 64


def test_speech_is_speech(engine: PiperEngine) -> None:
    sound = say(engine, "Good morning.")
    assert sound.dtype == np.float32
    assert 0.5 < len(sound) / 22_050 < 3
    assert 0.05 < np.abs(sound).max() <= 1.0


@pytest.mark.parametrize("text", ["", "   ", "…", "?!", "\u200b", "—"])
def test_nothing_speakable_is_empty_sound_and_no_error(engine: PiperEngine, text: str) -> None:
    slot = engine.admit(utterance(engine, text))
    (piece,) = engine.step()
    assert (piece.slot, piece.last, piece.finish_reason) == (slot, True, "stop")
    assert len(piece.samples) == 0
    assert piece.error is None


@pytest.mark.parametrize(
    "text", ["a\x00b", "\ud800 hello", "日本語", "😀", "[[həlˈoʊ]]", "<speak>hi</speak>", "x" * 400]
)
def test_odd_texts_are_spoken(engine: PiperEngine, text: str) -> None:
    assert len(say(engine, text, max_audio_s=1.5)) > 2_000


def test_alone_or_in_company_a_seed_gives_the_same_sound(engine: PiperEngine) -> None:
    alone = say(engine, "The same, whoever else is calling.")
    first = engine.admit(utterance(engine, "The same, whoever else is calling."))
    others = [
        engine.admit(utterance(engine, text, sampling=Sampling(seed=number)))
        for number, text in enumerate(["Someone else entirely.", "And a third caller."])
    ]
    assert np.array_equal(run(engine, first, *others)[first], alone)


def test_two_workers_give_the_same_sound_as_one(engine: PiperEngine, cache_dir: Path) -> None:
    texts = ["One caller speaks here.", "Another caller there.", "And a third one waits."]
    alone = [say(engine, text) for text in texts]
    wide = PiperEngine(PiperOptions(cache_dir=cache_dir, workers=2))
    wide.load()
    try:
        slots = [wide.admit(utterance(wide, text)) for text in texts]
        together = run(wide, *slots)
    finally:
        wide.unload()
    assert all(
        np.array_equal(together[slot], sound) for slot, sound in zip(slots, alone, strict=True)
    )


def test_unseeded_speech_varies(engine: PiperEngine) -> None:
    first, second = (say(engine, "Never twice the same.", sampling=Sampling()) for _ in range(2))
    assert len(first) != len(second) or not np.allclose(first, second)


def order_of(engine: PiperEngine, steps: int) -> list[int]:
    return [engine.step()[0].slot for _ in range(steps)]


def test_the_earliest_deadline_goes_first(engine: PiperEngine) -> None:
    now_s = time.monotonic()
    late = engine.admit(utterance(engine, "I can wait.", deadline_s=now_s + 100.0))
    soon = engine.admit(utterance(engine, "I cannot wait.", deadline_s=now_s + 50.0))
    assert order_of(engine, 3) == [soon, soon, soon]
    assert late in run(engine, late, soon)


def test_speech_that_would_break_off_goes_before_speech_that_has_not_begun(
    engine: PiperEngine,
) -> None:
    text = "I am speaking already, and my next words are needed at once."
    speaking = engine.admit(utterance(engine, text, deadline_s=time.monotonic() - 10.0))
    while not len(engine.step()[0].samples):
        pass
    waiting = engine.admit(utterance(engine, "I have not begun.", deadline_s=time.monotonic()))
    assert order_of(engine, 2) == [speaking, speaking]
    assert waiting in run(engine, speaking, waiting)


def test_speech_well_ahead_of_its_playback_lets_a_new_caller_begin(engine: PiperEngine) -> None:
    text = "I am speaking already, and I am far ahead of what is heard."
    ahead = engine.admit(utterance(engine, text, deadline_s=time.monotonic() + 50.0))
    while not len(engine.step()[0].samples):
        pass
    waiting = engine.admit(utterance(engine, "I have not begun.", deadline_s=time.monotonic()))
    assert order_of(engine, 3) == [waiting, waiting, waiting]
    assert ahead in run(engine, ahead, waiting)


def test_equal_deadlines_go_in_the_order_of_admission(engine: PiperEngine) -> None:
    first = engine.admit(utterance(engine, "First."))
    engine.admit(utterance(engine, "Second."))
    assert engine.step()[0].slot == first


@pytest.mark.parametrize("steps", range(5))
def test_release_in_every_phase(engine: PiperEngine, steps: int) -> None:
    text = "This one is hung up on, and the other one goes on."
    expected = say(engine, "I am still here.")
    gone = engine.admit(utterance(engine, text, deadline_s=0.0))
    for _ in range(steps):
        engine.step()
    stays = engine.admit(utterance(engine, "I am still here."))
    engine.release(gone)
    engine.release(gone)
    assert np.array_equal(run(engine, stays)[stays], expected)
    assert engine.step() == []


def test_release_while_workers_compute(cache_dir: Path) -> None:
    wide = PiperEngine(PiperOptions(cache_dir=cache_dir, workers=2))
    wide.load()
    try:
        slots = [wide.admit(utterance(wide, "Gone before it was heard.")) for _ in range(4)]
        wide.step()
        for slot in slots:
            wide.release(slot)
        stays = wide.admit(utterance(wide, "I am still here."))
        assert len(run(wide, stays)[stays]) > 0
    finally:
        wide.unload()


def test_a_fault_ends_its_slot_alone(engine: PiperEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = say(engine, "I am fine.")
    real = VoiceModel.encode

    def encode(self: VoiceModel, ids: list[int], *rest: Any) -> Any:
        if len(ids) > 60:
            raise RuntimeError("planted")
        return real(self, ids, *rest)

    monkeypatch.setattr(VoiceModel, "encode", encode)
    bad = engine.admit(utterance(engine, "This text is far too long for the planted fault."))
    good = engine.admit(utterance(engine, "I am fine."))
    ended = run(engine, bad, good)
    assert isinstance(ended[bad], EngineError)
    assert np.array_equal(ended[good], expected)


def test_speed_shortens_the_sound(engine: PiperEngine) -> None:
    still = {"options": {"noise_scale": 0, "noise_w_scale": 0}}
    normal = say(engine, "How fast can you say this sentence?", **still)
    fast = say(engine, "How fast can you say this sentence?", speed=2.0, **still)
    assert 0.4 < len(fast) / len(normal) < 0.65


def test_temperature_zero_is_no_noise(engine: PiperEngine) -> None:
    cold = say(engine, "No noise.", sampling=Sampling(seed=1, temperature=0.0))
    still = say(engine, "No noise.", options={"noise_scale": 0, "noise_w_scale": 0.0})
    assert np.array_equal(cold, still)


def test_the_length_limit_ends_with_its_reason(engine: PiperEngine) -> None:
    slot = engine.admit(utterance(engine, "Much longer than half a second.", max_audio_s=0.5))
    pieces = []
    while not pieces or not pieces[-1].last:
        pieces.extend(engine.step())
    assert {piece.slot for piece in pieces} == {slot}
    assert pieces[-1].finish_reason == "length"
    assert sum(len(piece.samples) for piece in pieces) == 11_025


@pytest.mark.parametrize(
    ("changes", "param", "kind"),
    [
        ({"voice": Voice("nobody", "piper")}, "voice", UnknownVoice),
        ({"voice": Voice("en_US-joe-medium#2", "piper")}, "voice", UnknownVoice),
        ({"speed": 0.0}, "speed", InputError),
        ({"speed": float("nan")}, "speed", InputError),
        ({"sampling": Sampling(top_p=0.9)}, "top_p", Unsupported),
        ({"sampling": Sampling(temperature=3.0)}, "temperature", InputError),
        ({"instructions": "whisper"}, "instructions", Unsupported),
        ({"language": "fr"}, "language", Unsupported),
        ({"text_open": True}, "input", Unsupported),
        ({"max_audio_s": 0.0}, "max_audio_s", InputError),
        ({"options": {"noise_scale": 2.1}}, "noise_scale", InputError),
        ({"options": {"noise_w_scale": "much"}}, "noise_w_scale", InputError),
        ({"options": {"colour": 1}}, "colour", InputError),
    ],
)
def test_validate_names_what_is_wrong(
    engine: PiperEngine, changes: dict[str, Any], param: str, kind: type[InputError]
) -> None:
    with pytest.raises(kind) as caught:
        engine.validate(utterance(engine, "Hello.", **changes))
    assert caught.value.param == param


@pytest.mark.parametrize("language", [None, "auto", "en", "en-US", "en_GB"])
def test_the_voice_s_own_language_is_accepted(engine: PiperEngine, language: str | None) -> None:
    engine.validate(utterance(engine, "Hello.", language=language))


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"sped": 1}, "sped"),
        ({"noise_scale": 3}, "noise_scale"),
        ({"capacity": 0}, "capacity"),
        ({"device": "tpu"}, "device"),
        ({"threads": "many"}, "threads"),
    ],
)
def test_wrong_engine_options_are_named(options: dict[str, Any], param: str) -> None:
    with pytest.raises(SettingsError) as caught:
        create(options)
    assert caught.value.param == param


def test_missing_packages_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vivavoce.engines.piper.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"vivavoce\[piper\]"):
        create({})


def test_a_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(SettingsError, match="CUDA"):
        create({"device": "cuda"}).load()


@pytest.mark.slow
def test_it_speaks_again_after_unload(cache_dir: Path) -> None:
    engine = PiperEngine(PiperOptions(cache_dir=cache_dir, workers=1))
    engine.load()
    before = say(engine, "Again.")
    engine.unload()
    engine.load()
    assert np.array_equal(say(engine, "Again."), before)
    engine.unload()
