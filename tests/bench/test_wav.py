from __future__ import annotations

import io
import itertools
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.bench.clients.sound import BodyReader
from vivavoce.bench.heard import Listening, Recorder
from vivavoce.bench.wav import WavFormat, WavReader
from vivavoce.errors import InvalidAudio

SOUND = bytes(range(200))


def wav_file() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 22_050, 0, "NONE", ""))
        file.writeframes(SOUND)
    return out.getvalue()


@given(st.lists(st.integers(0, 244), max_size=12))
def test_any_portions_give_the_same_sound(cuts: list[int]) -> None:
    data, reader = wav_file(), WavReader()
    edges = [0, *sorted(cuts), len(data)]
    parts = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert b"".join(reader.feed(part) for part in parts) == SOUND
    assert reader.format == WavFormat(channels=1, sample_rate_hz=22_050, bits=16)


def test_other_chunks_before_the_data_are_skipped() -> None:
    data = wav_file()
    at = data.index(b"data")
    listed = data[:at] + b"LIST" + (3).to_bytes(4, "little") + b"abc\0" + data[at:]
    assert WavReader().feed(listed) == SOUND


def test_something_else_is_refused() -> None:
    with pytest.raises(InvalidAudio):
        WavReader().feed(b"ID3\x04 this is no wave file")


@pytest.mark.parametrize("portion", [1, 3, 45, 1000])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_body_is_read_as_what_it_is(portion: int, wrapped: bool) -> None:
    body = wav_file() if wrapped else SOUND
    recorder = Recorder("text", 0.0, Listening())
    reader = BodyReader(recorder, 8_000)
    for at in range(0, len(body), portion):
        reader.feed(1.0 + at / 1000, body[at : at + portion])
    measure = recorder.finish(9.0)
    assert measure.ok
    assert measure.sample_rate_hz == (22_050 if wrapped else 8_000)
    assert measure.audio_s == len(SOUND) / 2 / measure.sample_rate_hz
    assert measure.first_byte_ms == pytest.approx(1000)
    if wrapped and portion == 45:
        assert measure.first_playable_ms == pytest.approx(1045)
