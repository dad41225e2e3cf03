"""Reference recordings: what is accepted, what is refused and in which words."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vivavoce.engines.qwen3.cloning import ICL_TAIL_SILENCE_S, prepare_reference
from vivavoce.errors import InvalidAudio


def tone(rate_hz: int, duration_s: float = 2.0, gain: float = 0.5) -> NDArray[np.float32]:
    at = np.arange(round(rate_hz * duration_s)) / rate_hz
    return (gain * np.sin(2 * np.pi * 440 * at)).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_any_rate_becomes_24_khz(rate_hz: int) -> None:
    made = prepare_reference(tone(rate_hz), rate_hz)
    assert made.dtype == np.float32
    assert len(made) == 48_000
    middle = slice(2_000, -2_000)
    np.testing.assert_allclose(made[middle], tone(24_000)[middle], atol=2e-3)


def test_what_is_at_24_khz_is_left_as_it_is() -> None:
    given = tone(24_000)
    assert np.array_equal(prepare_reference(given, 24_000), given)
    assert np.array_equal(prepare_reference(given.astype(np.float64), 24_000), given)


def test_silence_is_put_at_the_end() -> None:
    made = prepare_reference(tone(16_000), 16_000, tail_silence_s=ICL_TAIL_SILENCE_S)
    assert len(made) == 60_000
    assert not made[48_000:].any()
    assert made[47_000:48_000].any()


def test_a_quiet_recording_and_a_short_word_in_silence_are_accepted() -> None:
    prepare_reference(tone(24_000, gain=0.01), 24_000)
    mostly = np.concatenate([np.zeros(48_000, np.float32), tone(24_000, 0.2)])
    prepare_reference(mostly, 24_000)


def with_one(value: float) -> NDArray[np.float32]:
    samples = tone(24_000)
    samples[1_234] = value
    return samples


@pytest.mark.parametrize(
    ("samples", "rate_hz", "words"),
    [
        (np.zeros(0, np.float32), 24_000, "lasts 0.00 s; at least 1 s"),
        (np.ones(1, np.float32), 24_000, "at least 1 s"),
        (tone(24_000, 0.99), 24_000, "lasts 0.99 s"),
        (tone(8_000, 60.1), 8_000, "lasts 60.1 s; at most 60 s"),
        (np.zeros(48_000, np.float32), 24_000, "is silent"),
        (tone(24_000, gain=1e-4), 24_000, "is silent"),
        (with_one(np.nan), 24_000, "not numbers"),
        (with_one(-np.inf), 24_000, "not numbers"),
        (with_one(32_767.0), 24_000, "peak is 3.277e\\+04"),
        ((tone(24_000) * 32_767).astype(np.int16), 24_000, "are int16"),
        (np.stack([tone(24_000)] * 2), 24_000, "mono samples"),
        (tone(24_000), 0, "sample rate is 0 Hz"),
        (tone(24_000), 1_000_000, "sample rate"),
    ],
)
def test_what_cannot_be_used_is_refused_in_clear_words(
    samples: NDArray[np.float32], rate_hz: int, words: str
) -> None:
    with pytest.raises(InvalidAudio, match=words):
        prepare_reference(samples, rate_hz)


def test_the_limits_can_be_moved() -> None:
    assert len(prepare_reference(tone(24_000, 0.5), 24_000, min_s=0.5)) == 12_000
    with pytest.raises(InvalidAudio, match=r"at most 1\.5 s"):
        prepare_reference(tone(24_000), 24_000, max_s=1.5)
