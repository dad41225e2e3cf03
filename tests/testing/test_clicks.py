import numpy as np
import pytest
import soxr

from audio.sounds import tone, voice_like
from vivavoce.audio.g711 import alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
from vivavoce.testing.clicks import Click, click_scores, find_clicks
from vivavoce.types import Samples

HZ = 22_050
PIECE = round(0.002 * HZ)


def jump(sound: Samples, at: int) -> Samples:
    lifted = sound.copy()
    lifted[at:] += np.float32(0.05)
    return lifted


def dropped(sound: Samples, at: int) -> Samples:
    return np.concatenate([sound[:at], sound[at + PIECE :]])


def repeated(sound: Samples, at: int) -> Samples:
    return np.concatenate([sound[:at], sound[at - PIECE :]])


def is_found(clicks: list[Click], at: int, within: int = 12) -> bool:
    return any(abs(click.at_sample - at) <= within for click in clicks)


def share_found(speech: list[Samples], damage) -> float:
    """How many of 60 damages at random places in sounding speech are found."""
    rng = np.random.default_rng(3)
    found = []
    for sound in speech:
        loud = np.flatnonzero(np.abs(sound[HZ // 10 : -HZ // 10]) > 0.05) + HZ // 10
        for at in rng.choice(loud, 20).tolist():
            around = slice(at - HZ // 10, at + HZ // 10)
            found.append(is_found(find_clicks(damage(sound, at)[around], HZ), HZ // 10))
    return float(np.mean(found))


@pytest.mark.parametrize(("damage", "share"), [(jump, 0.6), (dropped, 0.8), (repeated, 0.75)])
def test_planted_breaks_in_natural_speech_are_found(damage, share, piper_speech) -> None:
    assert share_found(piper_speech, damage) >= share


def test_natural_speech_is_quiet(piper_speech: list[Samples]) -> None:
    assert [find_clicks(sound, HZ) for sound in piper_speech] == [[]] * len(piper_speech)


@pytest.mark.parametrize("target_hz", [8_000, 16_000, 24_000, 48_000])
def test_resampled_speech_is_quiet(target_hz: int, piper_speech: list[Samples]) -> None:
    for sound in piper_speech:
        assert find_clicks(soxr.resample(sound, HZ, target_hz), target_hz) == []


@pytest.mark.parametrize("target_hz", [8_000, 16_000])
def test_telephone_speech_is_quiet(target_hz: int, piper_speech: list[Samples]) -> None:
    for sound in piper_speech:
        narrow = soxr.resample(sound, HZ, target_hz)
        assert find_clicks(ulaw_decode(ulaw_encode(narrow)), target_hz) == []
        assert find_clicks(alaw_decode(alaw_encode(narrow)), target_hz) == []


@pytest.mark.parametrize("sample_rate_hz", [8_000, 16_000, 24_000, 48_000])
def test_a_plain_break_is_found_where_it_is_at_any_rate(sample_rate_hz: int) -> None:
    sound = voice_like(0.5, sample_rate_hz)
    at = sample_rate_hz // 4 + 17
    sound[at:] += np.float32(0.05)
    clicks = find_clicks(sound, sample_rate_hz)
    assert len(clicks) == 1
    assert abs(clicks[0].at_sample - at) <= sample_rate_hz // 1000


def test_an_unbroken_tone_and_silence_are_quiet() -> None:
    fade = np.minimum(1, np.arange(24_000) / 240).astype(np.float32)
    assert find_clicks(tone(1.0, 24_000) * fade * fade[::-1], 24_000) == []
    assert find_clicks(np.zeros(24_000, np.float32), 24_000) == []


@pytest.mark.parametrize("n", [0, 1, 2, 3, 40, 700])
def test_short_sounds_are_scored_too(n: int) -> None:
    assert click_scores(np.zeros(n, np.float32), 24_000).shape == (n,)
