"""Bytes of a stream: the same file whatever the chunks, at the rate that was announced."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest

from vivavoce.errors import InputError
from vivavoce.speech.delivery import delivered_format, encode_whole, encoded
from vivavoce.types import AudioChunk, AudioFormat

RATE_HZ = 22_050
TONE = (0.3 * np.sin(np.arange(RATE_HZ) * 0.1)).astype(np.float32)


async def pieces(*cuts: int) -> AsyncIterator[AudioChunk]:
    for part in np.split(TONE, cuts):
        yield AudioChunk(part, RATE_HZ)


async def gathered(target: AudioFormat, *cuts: int) -> bytes:
    return b"".join([data async for data in encoded(pieces(*cuts), RATE_HZ, target)])


@pytest.mark.parametrize("encoding", ["pcm", "wav", "flac", "ulaw", "alaw", "mp3", "aac"])
async def test_chunking_does_not_alter_the_bytes(encoding: str) -> None:
    target = delivered_format(encoding, None, RATE_HZ)
    whole = await gathered(target)
    assert len(whole) > 1_000
    assert await gathered(target, 1, 100, 5_000, 5_001, 20_000) == whole


async def test_chunking_does_not_alter_converted_sound() -> None:
    target = AudioFormat("pcm", 8_000)
    whole = np.frombuffer(await gathered(target), np.int16)
    in_pieces = np.frombuffer(await gathered(target, 1, 100, 5_000, 5_001, 20_000), np.int16)
    assert len(in_pieces) == len(whole)
    assert np.abs(in_pieces.astype(int) - whole).max() <= 1


async def test_sound_leaves_as_it_is_made() -> None:
    target = AudioFormat("pcm", 8_000)
    counts = [len(data) async for data in encoded(pieces(5_000, 10_000, 15_000), RATE_HZ, target)]
    assert len(counts) >= 4
    assert sum(counts) == pytest.approx(16_000, abs=4)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
async def test_any_rate_keeps_the_duration(rate_hz: int) -> None:
    data = await gathered(AudioFormat("pcm", rate_hz), 3_000)
    assert len(data) / 2 == pytest.approx(rate_hz, abs=2)


def test_a_rate_the_codec_cannot_carry_becomes_the_next_one() -> None:
    assert delivered_format("opus", 22_050, RATE_HZ).sample_rate_hz == 24_000
    assert delivered_format("pcm", None, RATE_HZ).sample_rate_hz == RATE_HZ


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        delivered_format("midi", None, RATE_HZ)
    assert caught.value.param == "response_format"


def test_a_whole_wav_has_an_exact_header() -> None:
    data = encode_whole(TONE, RATE_HZ, "wav")
    assert int.from_bytes(data[40:44], "little") == len(TONE) * 2 == len(data) - 44
