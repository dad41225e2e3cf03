import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.sounds import cut, noise, stream, tone, voice_like
from vivavoce.audio.stretch import TimeStretch
from vivavoce.errors import InputError
from vivavoce.testing.clicks import find_clicks
from vivavoce.types import Samples

SPEEDS = [0.25, 0.5, 0.8, 1.1, 1.5, 2.0, 3.0, 4.0]


def loudest_hz(samples: Samples, sample_rate_hz: int) -> float:
    size = 1 << 18
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size))
    return float(np.argmax(spectrum) * sample_rate_hz / size)


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("sample_rate_hz", [8_000, 22_050, 24_000, 48_000])
def test_duration_follows_the_speed_and_the_pitch_stays(speed: float, sample_rate_hz: int) -> None:
    sound = voice_like(1.0, sample_rate_hz, hz=150)
    got = stream(TimeStretch(speed, sample_rate_hz), cut(sound, [sample_rate_hz // 50]))
    assert len(got) == round(len(sound) / speed)
    assert loudest_hz(got, sample_rate_hz) == pytest.approx(150, rel=0.01)


@settings(max_examples=40, deadline=None)
@given(
    speed=st.floats(0.25, 4.0),
    sizes=st.lists(st.integers(0, 2_000), min_size=1, max_size=6),
    n=st.integers(0, 6_000),
    seed=st.integers(0, 3),
)
def test_any_chunking_gives_the_same_samples(
    speed: float, sizes: list[int], n: int, seed: int
) -> None:
    sound = noise(n / 8_000, 8_000, seed)
    whole = stream(TimeStretch(speed, 8_000), [sound])
    chunked = stream(TimeStretch(speed, 8_000), cut(sound, sizes))
    assert np.array_equal(whole, chunked)
    assert len(whole) == round(n / speed)


def test_single_samples_give_the_same_samples() -> None:
    sound = voice_like(0.3, 24_000)
    whole = stream(TimeStretch(1.3, 24_000), [sound])
    assert np.array_equal(whole, stream(TimeStretch(1.3, 24_000), cut(sound, [1])))


def test_speed_one_passes_through_untouched() -> None:
    stretch = TimeStretch(1.0, 24_000)
    sound = noise(0.2, 24_000)
    assert np.array_equal(stretch.push(sound), sound)
    assert len(stretch.finish()) == 0


@pytest.mark.parametrize("speed", [0.0, 0.24, 4.01, -1.0, float("nan"), float("inf")])
def test_other_speeds_are_refused(speed: float) -> None:
    with pytest.raises(InputError, match="speed") as caught:
        TimeStretch(speed, 24_000)
    assert caught.value.param == "speed"


@pytest.mark.parametrize("speed", [0.5, 0.9, 1.2, 2.0])
def test_a_tone_stays_a_tone(speed: float) -> None:
    """No hop breaks the wave: the steepest step is that of the sine itself."""
    got = stream(TimeStretch(speed, 24_000), cut(tone(1.0, 24_000, hz=220, peak=0.5), [500]))
    steepest = 0.5 * 2 * np.pi * 220 / 24_000
    middle = got[: -24_000 // 20]
    assert np.abs(np.diff(middle)).max() < 1.1 * steepest
    assert np.abs(middle[: len(middle) // 1000 * 1000].reshape(-1, 1000)).max(axis=1).min() > 0.4


@pytest.mark.parametrize("speed", [0.7, 0.9, 1.25, 1.7])
def test_natural_speech_has_no_clicks(speed: float, piper_speech: list[Samples]) -> None:
    for sound in piper_speech:
        assert find_clicks(stream(TimeStretch(speed, 22_050), cut(sound, [5_000])), 22_050) == []


@pytest.mark.parametrize("speed", SPEEDS)
def test_output_trails_the_input_by_no_more_than_stated(speed: float) -> None:
    stretch = TimeStretch(speed, 24_000)
    given_s = got_s = 0.0
    for piece in cut(voice_like(1.0, 24_000), [240]):
        given_s += len(piece) / 24_000
        got_s += len(stretch.push(piece)) / 24_000
        assert given_s - got_s * speed <= stretch.latency_s + 0.010 + 1e-9


def test_memory_stays_bounded() -> None:
    stretch = TimeStretch(4.0, 8_000)
    for _ in range(50):
        stretch.push(noise(1.0, 8_000))
    assert len(stretch._buffer) < 8_000


@pytest.mark.parametrize("speed", SPEEDS)
def test_a_place_moves_with_what_sounds_there(speed: float) -> None:
    """Where a tone begins in the input it begins in the output, within its latency."""
    before, sound = np.zeros(12_000, np.float32), tone(0.5, 24_000)
    stretch = TimeStretch(speed, 24_000)
    got = np.concatenate([stretch.push(np.concatenate([before, sound])), stretch.finish()])
    begun = int(np.argmax(np.abs(got) > 0.05))
    assert abs(begun - stretch.place(len(before))) * speed <= stretch.latency_s * 24_000
