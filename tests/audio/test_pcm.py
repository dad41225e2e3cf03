import numpy as np
import pytest

from vivavoce.audio.pcm import from_bytes, from_int16, to_bytes, to_int16
from vivavoce.errors import InvalidAudio


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
