import numpy as np
import pytest

from vivavoce.audio.pcm import KNEE, amplify, from_bytes, from_int16, to_bytes, to_int16
from vivavoce.errors import InvalidAudio

NOISE = np.random.default_rng(0).uniform(-1, 1, 5_000).astype(np.float32)


def test_every_int16_value_survives_the_way_there_and_back() -> None:
    values = np.arange(-32768, 32768).astype(np.int16)
    assert np.array_equal(to_int16(from_int16(values)), values)
    assert to_bytes(from_bytes(values.astype("<i2").tobytes())) == values.astype("<i2").tobytes()


@pytest.mark.parametrize(
    ("sample", "value"),
    [
        (0.0, 0),
        (1.0, 32767),
        (-1.0, -32768),
        (7.5, 32767),
        (-7.5, -32768),
        (0.6 / 32768, 1),
        (0.4 / 32768, 0),
        (-0.6 / 32768, -1),
        (float("nan"), 0),
        (float("inf"), 0),
        (float("-inf"), 0),
    ],
)
def test_rounds_to_nearest_clips_and_silences_what_is_no_number(sample: float, value: int) -> None:
    assert to_int16(np.array([sample], np.float32)).tolist() == [value]


def test_bytes_are_little_endian() -> None:
    assert to_bytes(np.array([1 / 32768, -1.0], np.float32)) == b"\x01\x00\x00\x80"


def test_an_odd_number_of_bytes_is_refused() -> None:
    with pytest.raises(InvalidAudio, match="odd number of bytes"):
        from_bytes(b"abc")


def test_nothing_stays_nothing() -> None:
    assert to_bytes(np.zeros(0, np.float32)) == b""
    assert from_bytes(b"").shape == (0,)


def test_no_gain_changes_nothing() -> None:
    assert amplify(NOISE, 0.0) is NOISE


def test_below_the_knee_it_is_a_plain_gain() -> None:
    quiet = NOISE * 0.3
    np.testing.assert_allclose(amplify(quiet, 6.0), quiet * 10 ** (6 / 20), rtol=1e-6)


@pytest.mark.parametrize("gain_db", [1.0, 6.0, 20.0])
def test_nothing_passes_full_scale_and_order_is_kept(gain_db: float) -> None:
    ramp = np.linspace(-1, 1, 2_001, dtype=np.float32)
    loud = amplify(ramp, gain_db)
    assert np.abs(loud).max() <= 1.0
    assert np.all(np.diff(loud) >= 0)
    assert np.abs(loud).max() > KNEE


def test_chunks_equal_the_whole() -> None:
    parts = [amplify(part, 6.0) for part in np.split(NOISE, [1, 700, 701, 4_000])]
    np.testing.assert_array_equal(np.concatenate(parts), amplify(NOISE, 6.0))


def test_the_callers_array_is_left_alone() -> None:
    before = NOISE.copy()
    amplify(NOISE, 12.0)
    np.testing.assert_array_equal(NOISE, before)
