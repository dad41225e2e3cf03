"""Encodings of finished sound: raw, WAV, and compressed containers, all of them streaming."""

from __future__ import annotations

from vivavoce.audio.containers.base import Encoder
from vivavoce.audio.containers.catalog import (
    ENCODINGS,
    Encoding,
    container_rate_hz,
    find_encoding,
)
from vivavoce.audio.containers.raw import RawEncoder
from vivavoce.audio.containers.wav import WavEncoder, wav_file, wav_header
from vivavoce.audio.g711 import alaw_encode, ulaw_encode
from vivavoce.audio.pcm import to_bytes
from vivavoce.errors import InputError

__all__ = [
    "ENCODINGS",
    "Encoder",
    "Encoding",
    "container_rate_hz",
    "find_encoding",
    "make_encoder",
    "wav_file",
    "wav_header",
]

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
    from vivavoce.audio.containers.compressed import CompressedEncoder

    return CompressedEncoder(encoding, sample_rate_hz)
