"""Stateful sample-rate conversion: one ``Resampler`` per stream, never one per chunk.

soxr's stream works in blocks: at HQ from 22,050 to 8,000 Hz its first output comes after 100 ms
of input and then every 60 to 80 ms, although its filter looks only 11 ms ahead. That would delay
the first sound, and hold back the end of a clause while the next one is still being made. So
``push`` also converts the latest input by itself, with enough context on its left, and hands on
the part that later input cannot alter. It equals the stream's own output to better than 100 dB;
when the stream catches up, what was given is skipped.
"""

from __future__ import annotations

from math import ceil, gcd
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from vivavoce.audio.pcm import concatenate, empty
from vivavoce.types import Samples

if TYPE_CHECKING:
    import soxr

Quality: TypeAlias = Literal["QQ", "LQ", "MQ", "HQ", "VHQ"]

# How far the filter looks to either side, in samples of the lower of the two rates. Measured for
# HQ: 90 until the error is under 100 dB; VHQ is twice as long.
_REACH = {"QQ": 16, "LQ": 64, "MQ": 100, "HQ": 100, "VHQ": 200}
# Converting ahead is worth its cost (about 0.1 ms) from this much new sound on.
_WORTH_S = 0.005
# Rates whose common grid is coarser than this would need too long a context.
_COARSEST_GRID_S = 0.1


class Resampler:
    """Converts a stream from one sample rate to another.

    The output has no leading delay and ``round(n * target_hz / source_hz)`` samples in all; it
    trails the input by at most 17.5 ms at HQ (rates without a common grid of 100 ms, such as
    24,000 and 8,001: 160 ms). Equal rates pass through untouched. Any chunking gives the same
    sound as converting it whole, within -90 dB.
    """

    def __init__(self, source_hz: int, target_hz: int, quality: Quality = "HQ") -> None:
        self._source_hz = source_hz
        self._target_hz = target_hz
        self._quality = quality
        self._stream = None if source_hz == target_hz else self._open()
        reach_s = _REACH[quality] / min(source_hz, target_hz)
        self._look_ahead = ceil(reach_s * target_hz)
        self._context = ceil(2 * reach_s * source_hz)
        # Input positions that fall on an output sample.
        self._grid = source_hz // gcd(source_hz, target_hz)
        self._recent = empty()
        self._recent_start = 0  # input position, on the grid
        self._taken = 0  # input samples
        self._streamed = 0  # output samples that soxr's stream has given
        self._given = 0  # output samples that were handed on

    def push(self, samples: Samples) -> Samples:
        """Take float32 (n,) at ``source_hz``; return what is ready, float32 (m,), m may be 0."""
        if self._stream is None or not len(samples):
            return samples
        self._taken += len(samples)
        fresh = self._not_given_yet(self._stream.resample_chunk(samples))
        self._remember(samples)
        ahead = self._convert_ahead()
        return np.concatenate([fresh, ahead]) if len(ahead) else fresh

    def finish(self) -> Samples:
        """Return the tail; the resampler is spent."""
        if self._stream is None:
            return empty()
        fresh = self._not_given_yet(self._stream.resample_chunk(empty(), last=True))
        missing = round(self._taken * self._target_hz / self._source_hz) - self._given
        # soxr rounds the length its own way: at most one sample differs.
        self._given += missing
        kept = len(fresh) + min(missing, 0)
        return concatenate([fresh[:kept], np.zeros(max(missing, 0), np.float32)])

    def _open(self) -> soxr.ResampleStream:
        import soxr

        return soxr.ResampleStream(
            self._source_hz, self._target_hz, 1, dtype="float32", quality=self._quality
        )

    def _not_given_yet(self, streamed: Samples) -> Samples:
        """Drop from the stream's output what was converted ahead."""
        fresh = streamed[max(0, self._given - self._streamed) :]
        self._streamed += len(streamed)
        self._given = max(self._given, self._streamed)
        return fresh

    def _remember(self, samples: Samples) -> None:
        """Keep the input that later output needs as context, from the grid on."""
        self._recent = np.concatenate([self._recent, samples])
        needed_from = self._given * self._source_hz // self._target_hz - self._context
        start = max(0, needed_from // self._grid * self._grid)
        self._recent = self._recent[start - self._recent_start :]
        self._recent_start = start

    def _convert_ahead(self) -> Samples:
        """What is settled beyond the stream's last block."""
        settled = self._taken * self._target_hz // self._source_hz - self._look_ahead
        too_coarse = self._grid > _COARSEST_GRID_S * self._source_hz
        if settled - self._given < _WORTH_S * self._target_hz or (too_coarse and self._streamed):
            return empty()
        import soxr

        converted = soxr.resample(self._recent, self._source_hz, self._target_hz, self._quality)
        first = self._recent_start * self._target_hz // self._source_hz
        ahead: Samples = converted[self._given - first : settled - first]
        self._given += len(ahead)
        return ahead
