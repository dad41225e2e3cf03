"""Stateful sample-rate conversion: one ``Resampler`` per stream, never one per chunk.

soxr works in blocks: at HQ from 22,050 to 8,000 Hz its first output comes after 100 ms of input
and then every 60 to 80 ms, although its filter looks only ~11 ms ahead. Until the first block is
out, ``push`` therefore resamples what has come so far as a whole and hands on the part that later
input cannot alter; that part equals the stream's own output to better than 100 dB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from vivavoce.audio.pcm import concatenate, empty
from vivavoce.types import Samples

if TYPE_CHECKING:
    import soxr

Quality: TypeAlias = Literal["QQ", "LQ", "MQ", "HQ", "VHQ"]

# How far the filter looks ahead, in samples of the lower of the two rates. Measured for HQ: 90
# until the error is under 100 dB; VHQ is twice as long.
_LOOK_AHEAD = {"QQ": 16, "LQ": 64, "MQ": 100, "HQ": 100, "VHQ": 200}
# A new try only after this much new input, so that tiny chunks stay cheap.
_RETRY_S = 0.005


class Resampler:
    """Converts a stream from one sample rate to another.

    The output has no leading delay and ``round(n * target_hz / source_hz)`` samples in all.
    Equal rates pass through untouched. Any chunking gives the same sound: each sample within
    -90 dB of the whole conversion, from the first block on bit for bit.
    """

    def __init__(self, source_hz: int, target_hz: int, quality: Quality = "HQ") -> None:
        self._source_hz = source_hz
        self._target_hz = target_hz
        self._quality = quality
        self._stream = None if source_hz == target_hz else self._open()
        look_ahead_s = _LOOK_AHEAD[quality] / min(source_hz, target_hz)
        self._look_ahead = int(np.ceil(look_ahead_s * target_hz))
        self._prefix: list[Samples] | None = []
        self._retry_at = 0
        self._taken = 0
        self._streamed = 0
        self._given = 0

    def push(self, samples: Samples) -> Samples:
        """Take float32 (n,) at ``source_hz``; return what is ready, float32 (m,), m may be 0."""
        if self._stream is None or not len(samples):
            return samples
        self._taken += len(samples)
        out: Samples = self._stream.resample_chunk(samples)
        fresh = self._not_given_yet(out)
        if self._prefix is None:
            return fresh
        self._prefix.append(samples)
        if len(out):
            self._prefix = None
            return fresh
        return self._early()

    def finish(self) -> Samples:
        """Return the tail; the resampler is spent."""
        if self._stream is None:
            return empty()
        tail: Samples = self._stream.resample_chunk(empty(), last=True)
        fresh = self._not_given_yet(tail)
        missing = round(self._taken * self._target_hz / self._source_hz) - self._given
        # soxr rounds the length its own way: at most one sample differs.
        self._given += missing
        kept = len(fresh) + min(missing, 0)
        return np.concatenate([fresh[:kept], np.zeros(max(missing, 0), np.float32)])

    def _open(self) -> soxr.ResampleStream:
        import soxr

        return soxr.ResampleStream(
            self._source_hz, self._target_hz, 1, dtype="float32", quality=self._quality
        )

    def _not_given_yet(self, out: Samples) -> Samples:
        """Drop from the stream's output what ``_early`` handed on before."""
        start = self._streamed
        self._streamed += len(out)
        fresh = out[max(0, self._given - start) :]
        self._given = max(self._given, self._streamed)
        return fresh

    def _early(self) -> Samples:
        """The settled part of the sound so far, before soxr's first block is full."""
        if self._taken < self._retry_at or self._prefix is None:
            return empty()
        import soxr

        self._retry_at = self._taken + int(_RETRY_S * self._source_hz)
        self._prefix = [concatenate(self._prefix)]
        whole: Samples = soxr.resample(
            self._prefix[0], self._source_hz, self._target_hz, self._quality
        )
        ready = whole[self._given : max(self._given, len(whole) - self._look_ahead)]
        self._given += len(ready)
        return ready
