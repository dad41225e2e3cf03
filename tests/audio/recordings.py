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
    """A recording with up to sixteen damages, the same ones for the same seed.

    Bytes are changed (more often near the beginning, where headers are), left out, doubled or
    exchanged, or the end is cut off.
    """
    draw = np.random.default_rng(seed)
    spoilt = bytearray(data)
    for _ in range(int(draw.integers(1, 17))):
        if not spoilt:
            break
        near = min(len(spoilt), 200) if draw.random() < 0.5 else len(spoilt)
        at, length = int(draw.integers(near)), int(draw.integers(1, 65))
        match int(draw.integers(6)):
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
                spoilt[at : at + 4] = b"\xff\xff\xff\xff" if draw.random() < 0.5 else bytes(4)
    if draw.random() < 0.1:
        del spoilt[int(draw.integers(1, len(spoilt) + 1)) :]
    return bytes(spoilt)
