"""Sound files decoded with PyAV, which shares no code with our own encoders' callers."""

from __future__ import annotations

import io

import av
import numpy as np

RAW_HZ = 24_000


def duration_s(data: bytes, encoding: str) -> float:
    """Seconds of sound in a file of that encoding; raw PCM is 24 kHz s16le mono."""
    if encoding == "pcm":
        return len(data) / 2 / RAW_HZ
    with av.open(io.BytesIO(data), "r") as container:
        frames = list(container.decode(audio=0))
    return float(sum(frame.samples / frame.sample_rate for frame in frames))


def loudness(data: bytes, encoding: str) -> float:
    """Root mean square of the decoded sound, full scale 1."""
    if encoding == "pcm":
        samples = np.frombuffer(data, "<i2") / 32768.0
        return float(np.sqrt(np.mean(np.square(samples))))
    with av.open(io.BytesIO(data), "r") as container:
        resampler = av.AudioResampler(format="fltp", layout="mono")
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    joined = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
    return float(np.sqrt(np.mean(np.square(joined, dtype=np.float64))))
