"""Files that are written as their sound comes: whole or not at all, and never whole in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from vivavoce.audio.decode import decode_audio
from vivavoce.errors import SetupError
from vivavoce.serving.outputs import SPOOL_BYTES, OutputFile

RATE_HZ = 48_000
SECOND = (0.4 * np.sin(np.arange(RATE_HZ) * 0.05)).astype(np.float32)


def test_a_long_file_is_never_whole_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    tracemalloc.start()
    try:
        output = OutputFile(path, RATE_HZ, "wav", lambda: True)
        for _ in range(300):
            output.push(SECOND)
        assert list(tmp_path.iterdir()) == [], "nothing stands there before it is whole"
        output.finish()
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size == 44 + 300 * RATE_HZ * 2
    assert peak_bytes < 2 * SPOOL_BYTES
    with path.open("rb") as file:
        header = file.read(44)
    assert int.from_bytes(header[40:44], "little") == 300 * RATE_HZ * 2


@pytest.mark.parametrize("encoding", ["wav", "flac", "mp3"])
def test_what_is_written_is_what_was_spoken(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / f"a.{encoding}"
    output = OutputFile(path, RATE_HZ, encoding, lambda: True)
    assert output.push(SECOND) == output.push(SECOND) == output.finish() == b""
    output.close()
    samples, rate_hz = decode_audio(path.read_bytes())
    assert len(samples) / rate_hz == pytest.approx(2.0, abs=0.1)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_given_up_or_not_wanted_any_more_it_leaves_nothing(tmp_path: Path) -> None:
    given_up = OutputFile(tmp_path / "a.flac", RATE_HZ, "flac", lambda: True)
    given_up.push(SECOND)
    given_up.close()
    given_up.close()
    unwanted = OutputFile(tmp_path / "b.flac", RATE_HZ, "flac", lambda: False)
    unwanted.push(SECOND)
    unwanted.finish()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said_by_name(tmp_path: Path) -> None:
    output = OutputFile(tmp_path / "gone" / "a.wav", RATE_HZ, "wav", lambda: True)
    output.push(SECOND)
    with pytest.raises(SetupError, match=r"a\.wav cannot be written: No such file"):
        output.finish()
    output.close()
