"""Recordings to voices, with an encoder that computes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("piper", reason="the extra 'neutts' is not installed")

from engines.neutts.stubs import StubBackbone
from vivavoce.engines.neutts import cloning, loading
from vivavoce.engines.neutts.family import NANO, TWO_E
from vivavoce.engines.neutts.options import NeuTTSOptions, Speakable
from vivavoce.engines.neutts.voices import ReferenceVoice, reference_of
from vivavoce.errors import InputError, InvalidAudio, Unsupported
from vivavoce.types import ReferenceAudio, Voice

KNOWN = Speakable(NANO, "en", ())
OPTIONS = NeuTTSOptions()
RECORDING = ReferenceAudio(
    np.random.default_rng(0).standard_normal(72_000).astype(np.float32) / 10,
    24_000,
    "What was said.",
)


@pytest.fixture(autouse=True)
def _encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """One code for each 20 ms of the recording."""

    def encode(_: NeuTTSOptions, reference: ReferenceAudio) -> np.ndarray:
        count = len(reference.samples) * 50 // reference.sample_rate_hz
        return np.arange(count, dtype=np.int32)

    monkeypatch.setattr(cloning, "_encode", encode)
    monkeypatch.setattr(loading, "find_spec", lambda name: object())


def clone(recording: ReferenceAudio, context: int = 2048) -> Voice:
    backbone = StubBackbone(context_tokens=context)
    return cloning.clone_voice(OPTIONS, backbone, KNOWN, recording)


def test_a_recording_becomes_codes_and_transcript() -> None:
    voice = clone(RECORDING)
    state = reference_of(voice)
    assert len(state.codes) == 150 and state.transcript == "What was said."
    assert voice.kind == "cloned" and voice.languages == ("en",)
    assert clone(RECORDING).id == voice.id
    again = ReferenceVoice.from_bytes(state.to_bytes())
    assert again.digest() == state.digest()


@pytest.mark.parametrize("transcript", [None, "", "  ", "…"])
def test_without_a_transcript_it_is_refused(transcript: str | None) -> None:
    with pytest.raises(InputError, match="transcript") as caught:
        clone(replace(RECORDING, transcript=transcript))
    assert caught.value.param == "ref_text"


@pytest.mark.parametrize("seconds", [0.5, 40.0])
def test_too_short_or_too_long_is_refused(seconds: float) -> None:
    noise = np.resize(RECORDING.samples, round(seconds * 24_000))
    with pytest.raises(InvalidAudio, match="lasts"):
        clone(replace(RECORDING, samples=noise))


def test_a_voice_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(InputError, match="context holds 256"):
        clone(RECORDING, context=256)


def test_fixed_speakers_and_a_missing_encoder_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = Speakable(TWO_E, "en", ())
    with pytest.raises(Unsupported, match="fixed speakers"):
        cloning.clone_voice(OPTIONS, StubBackbone(TWO_E), fixed, RECORDING)
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    assert not cloning.can_clone(OPTIONS, NANO)
    with pytest.raises(Unsupported, match="neutts-torch"):
        clone(RECORDING)
