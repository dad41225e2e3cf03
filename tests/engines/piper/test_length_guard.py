"""The guard against speech without an end knows what the scales do to the length of speech."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vivavoce.engines.piper.engine import PiperEngine
from vivavoce.engines.piper.model import Encoded, VoiceModel
from vivavoce.engines.piper.options import PiperOptions, longest_audio_s, scales_of
from vivavoce.engines.piper.phonemes import phoneme_ids, phonemize
from vivavoce.engines.piper.synthesis import MAX_PHONEME_S
from vivavoce.errors import RunawayOutput
from vivavoce.speech.service import ServiceOptions, SpeechService
from vivavoce.text.duration import max_duration_s
from vivavoce.types import Sampling, Span, SpeechRequest, Utterance

WILD = {"noise_scale": 2.0, "noise_w_scale": 2.0}
TEXTS = (
    "Yes.",
    "Hello there.",
    "Your table for two is booked at half past seven.",
    "The quick brown fox jumps over the lazy dog, and then it rests under the old oak tree.",
)


def utterance(engine: PiperEngine, text: str, **changes: Any) -> Utterance:
    limit_s = max_duration_s(text, changes.get("speed", 1.0), "en")
    base = Utterance((Span(text),), engine.voices()[0], max_audio_s=limit_s)
    return dataclasses.replace(base, **changes)


def lengths_s(model: VoiceModel, asked: Utterance, count: int) -> Iterator[float]:
    """How long an utterance would be, by the model's own durations, for many draws."""
    rng = np.random.default_rng(5)
    scales = scales_of(asked, model.config, PiperOptions())
    frame_s = model.hop_samples / model.config.sample_rate_hz
    parts = [phoneme_ids(p, model.config.phoneme_ids) for p in phonemize(asked.spans, model.config)]
    for _ in range(count):
        drawn = (
            model.encode(ids, scales, None, rng.standard_normal((2, len(ids)), np.float32))
            for ids in parts
        )
        longest = MAX_PHONEME_S * scales.length
        yield sum(np.minimum(each.durations * frame_s, longest).sum() for each in drawn)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"options": WILD},
        {"options": {"noise_w_scale": 1.5}},
        {"options": WILD, "speed": 0.5},
        {"options": WILD, "sampling": Sampling(temperature=2.0)},
    ],
    ids=str,
)
def test_no_healthy_call_is_longer_than_the_guard_allows(
    engine: PiperEngine, model: VoiceModel, changes: dict[str, Any]
) -> None:
    for text in TEXTS:
        asked = utterance(engine, text, **changes)
        limit_s = engine.longest_audio_s(asked)
        assert limit_s is not None
        assert max(lengths_s(model, asked, 20)) < limit_s


@pytest.mark.parametrize(
    ("options", "changes", "factor"),
    [
        ({}, {}, 1.0),
        ({}, {"options": {"noise_w_scale": 0.1}}, 1.0),
        ({}, {"options": {"noise_w_scale": 1.5}}, 1.5),
        ({}, {"options": WILD}, 2.0),
        ({}, {"options": WILD, "sampling": Sampling(temperature=2.0)}, 2.0),
        ({}, {"sampling": Sampling(temperature=2.0)}, 1.6),
        ({"noise_w_scale": 1.2}, {}, 1.2),
        ({"length_scale": 3.0}, {}, 3.0),
        ({"length_scale": 0.5}, {}, 1.0),
        ({"length_scale": 3.0}, {"speed": 0.5}, 3.0),
    ],
)
def test_the_guard_grows_with_what_stretches_speech(
    engine: PiperEngine,
    model: VoiceModel,
    options: dict[str, Any],
    changes: dict[str, Any],
    factor: float,
) -> None:
    asked = utterance(engine, "Hello there.", **changes)
    found = longest_audio_s(asked, model.config, PiperOptions(**options))
    assert found == pytest.approx((asked.max_audio_s or 0) * factor)


async def speak(service: SpeechService, text: str, seed: int, **options: float) -> float:
    request = SpeechRequest(text, sampling=Sampling(seed=seed), options=options)
    async with service.open(request) as stream:
        return sum([chunk.duration_s async for chunk in stream])


async def test_wild_calls_end_by_themselves(cache_dir) -> None:
    service = SpeechService(
        PiperEngine(PiperOptions(cache_dir=cache_dir)), ServiceOptions(cache_entries=0)
    )
    await service.start()
    try:
        for seed in range(12):
            assert await speak(service, TEXTS[2], seed, **WILD) > 1.0
    finally:
        await service.close()


async def test_a_voice_that_does_not_end_is_still_cut(
    cache_dir, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = VoiceModel.encode

    def endless(self: VoiceModel, *given: Any) -> Encoded:
        encoded = real(self, *given)
        return dataclasses.replace(encoded, durations=encoded.durations * 1000)

    engine = PiperEngine(PiperOptions(cache_dir=cache_dir))
    service = SpeechService(engine, ServiceOptions(cache_entries=0))
    await service.start()
    monkeypatch.setattr(VoiceModel, "encode", endless)
    try:
        for options in ({}, WILD):
            with pytest.raises(RunawayOutput):
                await speak(service, TEXTS[3], 1, **options)
    finally:
        await service.close()
