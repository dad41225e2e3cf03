"""What no voice can be made of, and what is only quiet."""

from __future__ import annotations

import numpy as np
import pytest

from audio.sounds import noise, tone, voice_like
from vivavoce.audio.decode import MIN_SOUND_S, check_voice_recording
from vivavoce.errors import InvalidAudio
from vivavoce.types import Samples

HZ = 24_000


def silence(duration_s: float) -> Samples:
    return np.zeros(round(duration_s * HZ), np.float32)


def between_silence(sound: Samples) -> Samples:
    return np.concatenate([silence(1.0), sound, silence(1.0)])


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (silence(3.0), "silent"),
        (silence(3.0) + np.float32(0.25), "silent"),
        (noise(3.0, HZ, peak=1e-5), "silent"),
        (noise(3.0, HZ, peak=5e-4), "too quiet"),
        (tone(0.02, HZ), "0.02 s of sound; at least 0.25 s"),
        (between_silence(tone(0.02, HZ)), "s of sound; at least"),
        (between_silence(tone(MIN_SOUND_S - 0.05, HZ)), "s of sound; at least"),
        (silence(0.0), "not mono"),
        (np.full(HZ, np.nan, np.float32), "not numbers"),
        (np.ones((HZ, 2), np.float32), "not mono"),
        (np.ones(HZ, np.int16), "floats"),
    ],
    ids=[
        "silence",
        "an offset",
        "less than a step of 16 bits",
        "below audibility",
        "20 ms",
        "20 ms between silence",
        "a syllable between silence",
        "nothing",
        "no numbers",
        "stereo",
        "integers",
    ],
)
def test_no_voice_and_why(samples: Samples, reason: str) -> None:
    with pytest.raises(InvalidAudio, match=reason) as caught:
        check_voice_recording(samples, HZ, "audio_sample")
    assert caught.value.param == "audio_sample"


@pytest.mark.parametrize(
    "samples",
    [
        tone(0.5, HZ),
        voice_like(3.0, HZ),
        voice_like(3.0, HZ) * np.float32(0.005),
        voice_like(3.0, HZ) + np.float32(0.3),
        between_silence(voice_like(0.5, HZ)),
        noise(1.0, HZ, peak=2e-3),
    ],
    ids=["half a second", "speech", "very quiet speech", "an offset", "pauses", "quiet noise"],
)
def test_what_may_be_a_voice(samples: Samples) -> None:
    check_voice_recording(samples, HZ)


@pytest.mark.parametrize("rate_hz", [4_000, 8_000, 44_100, 48_000])
def test_the_rate_alters_nothing(rate_hz: int) -> None:
    check_voice_recording(tone(MIN_SOUND_S + 0.02, rate_hz), rate_hz)
    with pytest.raises(InvalidAudio):
        check_voice_recording(tone(MIN_SOUND_S - 0.02, rate_hz), rate_hz)
