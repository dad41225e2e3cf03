"""From sound to bytes: raw, WAV, compressed containers, all of them streaming.

A WAV is RIFF WAVE with 16-bit PCM, mono. Source: Microsoft and IBM, "Multimedia Programming
Interface and Data Specifications 1.0", 1991.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import closing
from typing import IO

from vivavoce.audio.formats import Encoder, container_rate_hz
from vivavoce.audio.g711 import alaw_encode, ulaw_encode
from vivavoce.audio.pcm import BYTES_PER_SAMPLE, to_bytes
from vivavoce.audio.resample import Resampler
from vivavoce.errors import InputError
from vivavoce.types import AudioFormat, Samples

WAV_HEADER_BYTES = 44

_UNKNOWN_BYTES = 0xFFFFFFFF
_FORMAT_CHUNK_BYTES = 16
_PCM = 1


class RawEncoder(Encoder):
    """Sound without a container: every sample at once, through one stateless function."""

    def __init__(self, encode: Callable[[Samples], bytes]) -> None:
        self._encode = encode

    def push(self, samples: Samples) -> bytes:
        """Take float32 (n,); return all of it, encoded."""
        self.emitted_samples += len(samples)
        return self._encode(samples)


class WavEncoder(Encoder):
    """Streams WAV: the header leaves with the first push, its sizes say "unknown"."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._header = wav_header(sample_rate_hz)

    def push(self, samples: Samples) -> bytes:
        """Take float32 (n,); return it as s16le, after the header if this is the first."""
        self.emitted_samples += len(samples)
        return self._take_header() + to_bytes(samples)

    def finish(self) -> bytes:
        """Return the header if nothing was pushed."""
        return self._take_header()

    def _take_header(self) -> bytes:
        header, self._header = self._header, b""
        return header


def wav_header(sample_rate_hz: int, data_bytes: int | None = None) -> bytes:
    """The 44 bytes before the samples.

    Without ``data_bytes`` both sizes are 0xFFFFFFFF, which players read as "until the end".
    """
    data = _UNKNOWN_BYTES if data_bytes is None else data_bytes
    riff = _UNKNOWN_BYTES if data_bytes is None else data_bytes + WAV_HEADER_BYTES - 8
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


_RAW = {"pcm": to_bytes, "ulaw": ulaw_encode, "alaw": alaw_encode}


def make_encoder(encoding: str, sample_rate_hz: int) -> Encoder:
    """An encoder for one stream of mono float32 at ``sample_rate_hz``.

    Raises InputError for an unknown encoding (``response_format``) and for a rate it cannot
    carry (``sample_rate``): ask ``container_rate_hz`` first and resample.
    """
    carried_hz = container_rate_hz(encoding, sample_rate_hz)
    if carried_hz != sample_rate_hz:
        raise InputError(
            f"{encoding} cannot carry {sample_rate_hz} Hz; the next rate it can is {carried_hz}.",
            param="sample_rate",
        )
    if encoding in _RAW:
        return RawEncoder(_RAW[encoding])
    if encoding == "wav":
        return WavEncoder(sample_rate_hz)
    from vivavoce.audio.compressed import CompressedEncoder

    return CompressedEncoder(encoding, sample_rate_hz)


def delivered_format(encoding: str, requested_hz: int | None, engine_hz: int) -> AudioFormat:
    """What will really be sent: the rate asked for, or the next one the encoding can carry.

    Raises InputError for an unknown encoding or an impossible rate.
    """
    return AudioFormat(encoding, container_rate_hz(encoding, requested_hz or engine_hz))


class Delivery(Encoder):
    """Resamples and encodes one stream's sound, with state that lives as long as the stream.

    ``emitted_samples`` counts at the delivered rate.
    """

    def __init__(self, source_hz: int, target: AudioFormat) -> None:
        self.target = target
        self._resampler = Resampler(source_hz, target.sample_rate_hz)
        self._encoder: Encoder = make_encoder(target.encoding, target.sample_rate_hz)

    def push(self, samples: Samples) -> bytes:
        """Bytes that can leave now; may be empty."""
        return self._pushed(self._resampler.push(samples))

    def finish(self) -> bytes:
        """The rest."""
        data = self._pushed(self._resampler.finish()) + self._encoder.finish()
        self.emitted_samples = self._encoder.emitted_samples
        return data

    def close(self) -> None:
        """Give up an unfinished encoding. Idempotent."""
        self._encoder.close()

    def _pushed(self, samples: Samples) -> bytes:
        data = self._encoder.push(samples)
        self.emitted_samples = self._encoder.emitted_samples
        return data


class SoundFile(Encoder):
    """Writes one stream into an open file, as it is made; what it returns is always empty.

    The file stays open; a WAV gets its true sizes where it can be rewound.
    """

    def __init__(self, file: IO[bytes], source_hz: int, target: AudioFormat) -> None:
        self._file = file
        self._target = target
        self._delivery = Delivery(source_hz, target)
        self._written_bytes = 0

    def push(self, samples: Samples) -> bytes:
        """Write what the encoder gives; flushed, so that a reader hears it at once."""
        return self._write(self._delivery.push(samples))

    def finish(self) -> bytes:
        """Write the rest, and a WAV's sizes where the file can be rewound."""
        self._write(self._delivery.finish())
        if self._target.encoding == "wav" and self._file.seekable():
            self._file.seek(0)
            data_bytes = self._written_bytes - WAV_HEADER_BYTES
            self._file.write(wav_header(self._target.sample_rate_hz, data_bytes))
            self._file.flush()
        return b""

    def close(self) -> None:
        """Give up what is unfinished. Idempotent."""
        self._delivery.close()

    def _write(self, data: bytes) -> bytes:
        if data:
            self._file.write(data)
            self._file.flush()
            self._written_bytes += len(data)
        return b""


def encode_whole(samples: Samples, sample_rate_hz: int, encoding: str) -> bytes:
    """A whole sound as a file. Raises InputError for an unknown encoding."""
    target = delivered_format(encoding, None, sample_rate_hz)
    if encoding == "wav":
        return wav_file(samples, sample_rate_hz)
    with closing(Delivery(sample_rate_hz, target)) as delivery:
        return delivery.push(samples) + delivery.finish()
