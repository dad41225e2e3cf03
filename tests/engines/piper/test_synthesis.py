"""The cut and windowed voice against the voice as it was exported, and how windows grow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from vivavoce.engines.piper import synthesis
from vivavoce.engines.piper.model import VoiceModel
from vivavoce.engines.piper.options import Scales, SynthesisOptions
from vivavoce.engines.piper.phonemes import MAX_PART_PHONEMES, phoneme_ids, phonemize
from vivavoce.engines.piper.synthesis import StepOutput, Synthesis, WindowPlan
from vivavoce.errors import EngineError
from vivavoce.types import Span

QUIET = SynthesisOptions(Scales(0.0, 0.0, 1.0), None, 0, None)
NOISY = SynthesisOptions(Scales(0.667, 0.8, 1.0), None, 7, None)


def speak(
    model: VoiceModel,
    text: str,
    options: SynthesisOptions = QUIET,
    plan: tuple[int, int, float] = (16, 64, 2),
) -> tuple[Any, list[StepOutput]]:
    windows = WindowPlan(*plan, model.decoder_radius_frames)
    run = Synthesis(model, (Span(text),), options, windows)
    pieces = [run.advance()]
    while pieces[-1].reason is None:
        pieces.append(run.advance())
    return np.concatenate([piece.samples for piece in pieces]), pieces


def ids_of(model: VoiceModel, text: str) -> list[list[int]]:
    parts = phonemize((Span(text),), model.config)
    return [phoneme_ids(part, model.config.phoneme_ids) for part in parts]


def reference(model: VoiceModel, whole: Any, text: str, length: float = 1.0) -> Any:
    return np.concatenate([whole(ids, length) for ids in ids_of(model, text)])


@pytest.mark.parametrize(
    "text",
    [
        "Yes.",
        "Hello there, how can I help you today?",
        "Your table is booked for seven, and the name is Smith.",
        "Wait! What was that? Nothing.",
        "a",
    ],
)
def test_equals_the_uncut_voice(model: VoiceModel, whole: Any, text: str) -> None:
    sound, _ = speak(model, text)
    expected = reference(model, whole, text)
    assert len(sound) == len(expected)
    assert np.abs(sound - expected).max() <= 1e-4


def test_speed_equals_the_length_scale_of_the_uncut_voice(model: VoiceModel, whole: Any) -> None:
    options = SynthesisOptions(Scales(0.0, 0.0, 1.4), None, 0, None)
    sound, _ = speak(model, "A little slower.", options)
    expected = reference(model, whole, "A little slower.", 1.4)
    assert len(sound) == len(expected) > len(reference(model, whole, "A little slower."))
    assert np.abs(sound - expected).max() <= 1e-4


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@example(first=1, largest=8, growth=1.0, chunk=1)
@given(
    first=st.integers(1, 60),
    largest=st.integers(8, 120),
    growth=st.floats(1.0, 4.0),
    chunk=st.integers(1, 200),
)
def test_any_windows_give_the_same_sound(
    model: VoiceModel, first: int, largest: int, growth: float, chunk: int
) -> None:
    text = "One."
    expected, _ = speak(model, text, NOISY, (10_000, 10_000, 1.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthesis, "FLOW_CHUNK_FRAMES", chunk)
        sound, _ = speak(model, text, NOISY, (first, largest, growth))
    assert len(sound) == len(expected)
    assert np.abs(sound - expected).max() <= 1e-4


def test_too_little_context_would_be_noticed(model: VoiceModel) -> None:
    expected, _ = speak(model, "One moment, please.", NOISY, (10_000, 10_000, 1.0))
    run = Synthesis(model, (Span("One moment, please."),), NOISY, WindowPlan(16, 64, 2.0, 2))
    pieces = [run.advance()]
    while pieces[-1].reason is None:
        pieces.append(run.advance())
    sound = np.concatenate([piece.samples for piece in pieces])
    assert np.abs(sound - expected).max() > 1e-3


def test_windows_grow_from_a_small_first_one(model: VoiceModel) -> None:
    _, pieces = speak(model, "Thank you for calling, how can I help you with your order today?")
    lengths = [len(piece.samples) for piece in pieces if len(piece.samples)]
    assert lengths[:3] == [16 * 256, 32 * 256, 64 * 256]
    assert max(lengths) <= 96 * 256


def test_stages_are_reported(model: VoiceModel) -> None:
    _, pieces = speak(model, "Yes, of course.")
    assert list(pieces[0].stages_ms) == ["phonemes", "encoder"]
    assert {name for piece in pieces for name in piece.stages_ms} == {
        "phonemes",
        "encoder",
        "flow",
        "decoder",
    }


def test_a_seed_fixes_the_sound_and_another_alters_it(model: VoiceModel) -> None:
    first, _ = speak(model, "The same again.", NOISY)
    second, _ = speak(model, "The same again.", NOISY)
    other, _ = speak(model, "The same again.", SynthesisOptions(NOISY.scales, None, 8, None))
    assert np.array_equal(first, second)
    assert len(other) != len(first) or not np.allclose(other, first)


@pytest.mark.parametrize("limit", [1, 4096, 5000, 20_000])
def test_stops_at_the_length_limit(model: VoiceModel, limit: int) -> None:
    whole_sound, _ = speak(model, "This is longer than it may be.", NOISY)
    sound, pieces = speak(
        model, "This is longer than it may be.", SynthesisOptions(NOISY.scales, None, 7, limit)
    )
    assert len(sound) == limit
    assert pieces[-1].reason == "length"
    assert np.abs(sound - whole_sound[:limit]).max() <= 1e-4


def test_a_limit_that_is_not_reached_changes_nothing(model: VoiceModel) -> None:
    whole_sound, _ = speak(model, "Short.", NOISY)
    sound, pieces = speak(
        model, "Short.", SynthesisOptions(NOISY.scales, None, 7, len(whole_sound))
    )
    assert pieces[-1].reason == "stop"
    assert np.array_equal(sound, whole_sound)


def test_a_text_without_end_is_encoded_in_bounded_parts(model: VoiceModel) -> None:
    parts = phonemize((Span("word " * 300),), model.config)
    assert len(parts) > 3
    assert max(map(len, parts)) <= MAX_PART_PHONEMES
    assert "".join(map("".join, parts)).count("w") == 300


def test_numbers_that_are_not_sound_are_an_error(
    model: VoiceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VoiceModel, "decode", lambda *_: np.full(100_000, np.nan, np.float32))
    with pytest.raises(EngineError):
        speak(model, "Broken.")


@given(
    st.integers(1, 100),
    st.integers(1, 200),
    st.floats(1.0, 5.0),
    st.integers(0, 30),
    st.integers(1, 3_000),
)
def test_windows_tile_the_text(
    first: int, largest: int, growth: float, context: int, frames: int
) -> None:
    plan = WindowPlan(first, largest, growth, context)
    start = index = 0
    while start < frames:
        window = plan.window(index, start, frames)
        assert window.start == start < window.end <= frames
        assert window.seen_start == max(0, start - context)
        assert window.seen_end == min(frames, window.end + context)
        assert window.end - start <= 1.5 * plan.size(index)
        start, index = window.end, index + 1


def test_sizes_grow_to_the_largest() -> None:
    plan = WindowPlan(16, 64, 2.0, 11)
    assert [plan.size(index) for index in range(5)] == [16, 32, 64, 64, 64]
    assert WindowPlan(100, 64, 2.0, 11).size(0) == 64
    assert [WindowPlan(20, 64, 1.0, 11).size(index) for index in (0, 9)] == [20, 20]
