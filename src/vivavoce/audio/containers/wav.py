"""RIFF WAVE with 16-bit PCM, mono.

Source: Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0", 1991.
"""

from __future__ import annotations

import struct

from vivavoce.audio.containers.base import Encoder
from vivavoce.audio.pcm import BYTES_PER_SAMPLE, to_bytes
from vivavoce.types import Samples

_UNKNOWN_BYTES = 0xFFFFFFFF
_FORMAT_CHUNK_BYTES = 16
_HEADER_BYTES = 44
_PCM = 1


def wav_header(sample_rate_hz: int, data_bytes: int | None = None) -> bytes:
    """The 44 bytes before the samples.

    Without ``data_bytes`` both sizes are 0xFFFFFFFF, which players read as "until the end".
    """
    data = _UNKNOWN_BYTES if data_bytes is None else data_bytes
    riff = _UNKNOWN_BYTES if data_bytes is None else data_bytes + _HEADER_BYTES - 8
    rate = (sample_rate_hz, sample_rate_hz * BYTES_PER_SAMPLE, BYTES_PER_SAMPLE)
    return (
        struct.pack("<4sI4s", b"RIFF", riff, b"WAVE")
        + struct.pack("<4sIHHIIHH", b"fmt ", _FORMAT_CHUNK_BYTES, _PCM, 1, *rate, 16)
        + struct.pack("<4sI", b"data", data)
    )


def wav_file(samples: Samples, sample_rate_hz: int) -> bytes:
    """A whole WAV file of float32 (n,), with exact sizes in its header."""
    data = to_bytes(samples)
    return wav_header(sample_rate_hz, len(data)) + data


class WavEncoder(Encoder):
    """Streams WAV: the header leaves with the first push, its sizes say "unknown"."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._header = wav_header(sample_rate_hz)

    def push(self, samples: Samples) -> bytes:
        """Take float32 (n,); return it as s16le, after the header if this is the first."""
        return self._take_header() + to_bytes(samples)

    def finish(self) -> bytes:
        """Return the header if nothing was pushed."""
        return self._take_header()

    def _take_header(self) -> bytes:
        header, self._header = self._header, b""
        return header
