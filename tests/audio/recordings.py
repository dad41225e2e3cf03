"""Recordings in the formats that people send, made here, and such as no encoder makes."""

from __future__ import annotations

import base64
import io
import zlib

import av
import numpy as np

from audio.sounds import tone
from vivavoce.types import Samples

HZ = 24_000

FORMATS = {
    "wav": ("wav", "pcm_s16le", HZ),
    "flac": ("flac", "flac", HZ),
    "ogg": ("ogg", "vorbis", HZ),
    "opus": ("ogg", "libopus", 48_000),
    "mp3": ("mp3", "libmp3lame", HZ),
    "aac": ("adts", "aac", HZ),
    "m4a": ("ipod", "aac", HZ),
    "webm": ("webm", "libopus", 48_000),
}
"""What a recording is called, and FFmpeg's muxer, encoder and a rate for it."""

CHANGING_CHANNELS = zlib.decompress(
    base64.b64decode(
        "eNr7/zHCgXn+n3tMDD6JZclmRnpGFnqGBkYMTAYOfP+BcmteblhxPkXh6ccIBiBglFBgB4ky1v+hL1PzwPrpho5clqS"
        "b8P///3oqOgdkHL09P8okjwkAtHgdxg=="
    )
)
"""732 bytes of AAC that say one channel; the second frame has 47."""


def recording(name: str, duration_s: float = 1.0) -> bytes:
    """A tone in one of ``FORMATS``."""
    muxer, codec, rate_hz = FORMATS[name]
    # FFmpeg's own encoder for Vorbis knows no mono.
    layout = "stereo" if codec == "vorbis" else "mono"
    return written(muxer, codec, tone(duration_s, rate_hz), rate_hz, layout)


def written(muxer: str, codec: str, samples: Samples, rate_hz: int, layout: str = "mono") -> bytes:
    """The same samples, float32 (n,), in every channel of a layout of FFmpeg's."""
    file = io.BytesIO()
    channels = av.AudioLayout(layout).nb_channels
    packed = np.repeat(samples[:, None].astype(np.float32), channels, axis=1).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    frame.sample_rate = rate_hz
    # Without it some formats are given a random number of their own.
    same = {"fflags": "+bitexact"}
    with av.open(file, "w", format=muxer, options=same) as container:
        stream = container.add_stream(
            codec, rate=rate_hz, layout=layout, options={"strict": "experimental"}
        )
        context = stream.codec_context
        context.open()
        cut = av.AudioResampler(
            format=context.format, layout=layout, rate=rate_hz, frame_size=context.frame_size
        )
        for ready in (*cut.resample(frame), *cut.resample(None), None):
            container.mux(stream.encode(ready))
    return file.getvalue()


def mutant(data: bytes, seed: int) -> bytes:
    """A recording with a few damages, the same ones for the same seed.

    Bytes are changed (more often near the beginning, where headers are), left out, doubled or
    overwritten, or the end is cut off. The check sums of Ogg's pages are often put right again:
    else no damage would reach a decoder.
    """
    draw = np.random.default_rng(seed)
    spoilt = bytearray(data)
    for _ in range(int(draw.geometric(0.4))):
        near = 200 if draw.random() < 0.3 else len(spoilt)
        at, length = int(draw.integers(min(near, len(spoilt)))), int(draw.integers(1, 33))
        match int(draw.choice(6, p=[0.3, 0.3, 0.1, 0.1, 0.1, 0.1])):
            case 0:
                spoilt[at] = int(draw.integers(256))
            case 1:
                spoilt[at] ^= 1 << int(draw.integers(8))
            case 2:
                spoilt[at : at + length] = draw.bytes(length)
            case 3:
                del spoilt[at : at + length]
            case 4:
                spoilt[at:at] = spoilt[at : at + length] * int(draw.integers(1, 5))
            case _:
                spoilt[at : at + 4] = bytes(4) if draw.random() < 0.5 else bytes([255] * 4)
    if draw.random() < 0.05:
        del spoilt[int(draw.integers(1, len(spoilt))) :]
    if draw.random() < 0.7:
        _sum_pages(spoilt)
    return bytes(spoilt)


def _sum_pages(data: bytearray) -> None:
    """Put the check sums of an Ogg file's pages right (RFC 3533, section 6)."""
    at = data.find(b"OggS")
    while at >= 0 and at + 27 <= len(data):
        segments = data[at + 27 : at + 27 + data[at + 26]]
        end = at + 27 + len(segments) + sum(segments)
        data[at + 22 : at + 26] = bytes(4)
        summed = 0
        for byte in data[at:end]:
            summed = (summed << 8 & 0xFFFFFFFF) ^ _SUMS[summed >> 24 ^ byte]
        data[at + 22 : at + 26] = summed.to_bytes(4, "little")
        at = data.find(b"OggS", at + 27)


def _ogg_sum(byte: int) -> int:
    rest = byte << 24
    for _ in range(8):
        rest = (rest << 1 ^ 0x04C11DB7 if rest >> 31 else rest << 1) & 0xFFFFFFFF
    return rest


_SUMS = [_ogg_sum(byte) for byte in range(256)]
