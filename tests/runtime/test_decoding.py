"""Recordings are decoded apart: what a decoder does is that upload's own affair."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audio import recordings
from audio.sounds import tone
from vivavoce.audio.decode import MAX_BYTES, decode_audio
from vivavoce.errors import InvalidAudio
from vivavoce.runtime.decoding import (
    BOUNDS,
    DECODES_AT_ONCE,
    RecordingDecoder,
    decode_file,
    samples_of,
)
from vivavoce.runtime.decoding_child import DECODED, RATE, REFUSED

SHORT = np.zeros(4, "<f4").tobytes()


@pytest.fixture
async def decoder() -> AsyncIterator[RecordingDecoder]:
    made = RecordingDecoder()
    yield made
    await made.close()


@pytest.mark.parametrize("name", recordings.FORMATS)
async def test_apart_as_here(decoder: RecordingDecoder, name: str) -> None:
    data = recordings.recording(name)
    samples, rate_hz = samples_of(await decoder.decode(data))
    here, here_hz = decode_audio(data)
    assert rate_hz == here_hz
    np.testing.assert_array_equal(samples, here)
    assert samples.flags.writeable, "engines hand it to PyTorch"


@pytest.mark.parametrize("data", [b"", b"no sound at all", recordings.CHANGING_CHANNELS])
async def test_what_is_refused_here_is_refused_there(
    decoder: RecordingDecoder, data: bytes
) -> None:
    with pytest.raises(InvalidAudio) as here:
        decode_audio(data)
    answer = await decoder.decode(data, param="audio_sample")
    with pytest.raises(InvalidAudio) as there:
        samples_of(answer, param="audio_sample")
    assert there.value.message == here.value.message
    assert there.value.param == "audio_sample"
    assert decoder.pool.died == 0


@pytest.mark.parametrize("memory_bytes", [2 * 1024**2, 40 * 1024**2])
async def test_a_small_file_that_needs_much_memory_is_refused(memory_bytes: int) -> None:
    data = recordings.written("flac", "flac", tone(50.0, 48_000), 48_000)
    decoder = RecordingDecoder(bounds=replace(BOUNDS, memory_bytes=memory_bytes))
    # Libraries that do not look whether they were given memory crash instead of saying so.
    with pytest.raises(InvalidAudio, match=r"too much memory|crashed") as caught:
        samples_of(await decoder.decode(data, param="file"), param="file")
    assert caught.value.param == "file"
    await decoder.close()


async def test_the_longest_recording_fits_into_the_bounds(decoder: RecordingDecoder) -> None:
    data = recordings.written("flac", "flac", tone(59.5, 192_000), 192_000)
    samples, rate_hz = samples_of(await decoder.decode(data))
    assert len(samples) / rate_hz == pytest.approx(59.5)
    assert decoder.pool.died == 0


async def test_too_many_bytes_are_refused_before_they_are_sent(decoder: RecordingDecoder) -> None:
    with pytest.raises(InvalidAudio, match="at most"):
        await decoder.decode(bytes(MAX_BYTES + 1))
    assert decoder.pool.started == 0


async def test_few_processes_decode_many(decoder: RecordingDecoder) -> None:
    data = recordings.recording("opus")
    await asyncio.gather(*(decoder.decode(data) for _ in range(12)))
    assert decoder.pool.started <= DECODES_AT_ONCE


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"?" + SHORT,
        DECODED,
        DECODED + RATE.pack(24_000),
        DECODED + RATE.pack(24_000) + b"abc",
        DECODED + RATE.pack(0) + SHORT,
        DECODED + RATE.pack(4_000_000_000) + SHORT,
        DECODED + RATE.pack(8_000) + bytes(4 * (60 * 8_000 + 1)),
        DECODED + RATE.pack(24_000) + np.array([np.nan], "<f4").tobytes(),
        DECODED + RATE.pack(24_000) + np.array([1.5], "<f4").tobytes(),
    ],
)
def test_nothing_that_the_process_says_is_taken_on_trust(nonsense: bytes) -> None:
    with pytest.raises(InvalidAudio):
        samples_of(nonsense, param="file")


def test_a_long_reason_is_cut() -> None:
    with pytest.raises(InvalidAudio) as caught:
        samples_of(REFUSED + b"\xff" * 100_000)
    assert len(caught.value.message) <= 500


def test_a_file_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "me.flac"
    path.write_bytes(recordings.recording("flac"))
    samples, rate_hz = decode_file(path)
    assert len(samples) == rate_hz
    path.write_bytes(recordings.CHANGING_CHANNELS)
    with pytest.raises(InvalidAudio, match="47 channels"):
        decode_file(path, param="ref_audio")
    with pytest.raises(InvalidAudio, match="Cannot read"):
        decode_file(tmp_path / "missing.wav")


def test_it_works_in_the_servers_event_loop_outside_of_the_main_thread() -> None:
    uvloop = pytest.importorskip("uvloop")
    found: list[int] = []

    async def decode() -> None:
        decoder = RecordingDecoder()
        found.append(samples_of(await decoder.decode(recordings.recording("wav")))[1])
        await decoder.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(decode())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [24_000]
