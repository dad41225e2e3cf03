"""Streaming time-stretch that keeps the pitch: WSOLA.

Source: W. Verhelst and M. Roelands, "An overlap-add technique based on waveform similarity
(WSOLA) for high quality time-scale modification of speech", ICASSP 1993. Output is made in hops
of 15 ms. Each hop cross-fades from the natural continuation of the last input segment to the
segment near the wanted position (±8 ms) that resembles that continuation most, by normalized
cross-correlation.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from vivavoce.audio.pcm import concatenate, empty
from vivavoce.errors import InputError
from vivavoce.types import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Floats: TypeAlias = NDArray[np.float32]

MIN_SPEED = 0.25
MAX_SPEED = 4.0

_HOP_S = 0.015
_SEEK_S = 0.008
# Below this mean power (-80 dB) there is nothing to align: take the wanted position itself.
_SILENT_POWER = 1e-8


class TimeStretch:
    """Changes the speed of a stream and keeps its pitch.

    ``speed`` 2.0 halves the duration; 1.0 passes through untouched. The output has
    ``round(n / speed)`` samples. Any chunking gives bit for bit the same output. The first 15 ms
    of output leave once the input they stand for is in; after that, a hop of 15 ms needs at most
    ``latency_s`` of input from where it starts. Raises InputError for a speed outside 0.25 to 4.0.
    """

    def __init__(self, speed: float, sample_rate_hz: int) -> None:
        if not MIN_SPEED <= speed <= MAX_SPEED:
            raise InputError(
                f"The speed must be between {MIN_SPEED} and {MAX_SPEED}, not {speed}.",
                param="speed",
            )
        self._speed = speed
        self._hop = round(_HOP_S * sample_rate_hz)
        self._seek = round(_SEEK_S * sample_rate_hz)
        self._fft = 1 << (2 * self._seek + 2 * self._hop - 1).bit_length()
        angle = np.pi * (np.arange(self._hop, dtype=np.float32) + 0.5) / self._hop
        self._rise: _Floats = (0.5 - 0.5 * np.cos(angle)).astype(np.float32)
        self._buffer = empty()
        self._origin = 0  # input position of the buffer's first sample
        self._taken = 0
        self._hops = 0
        self._last = 0  # input position of the segment that sounds now
        self.latency_s = 0.0 if speed == 1.0 else max(2 * _HOP_S + _SEEK_S, speed * _HOP_S)

    def push(self, samples: Samples) -> Samples:
        """Take float32 (n,); return what is ready, float32 (m,), m may be 0."""
        if self._speed == 1.0:
            return samples
        self._taken += len(samples)
        self._buffer = np.concatenate([self._buffer, samples])
        return concatenate(self._ready_hops())

    def place(self, position: int) -> int:
        """Where the output has what the input has ``latency_s`` or less from ``position``."""
        return round(position / self._speed)

    def finish(self) -> Samples:
        """Return the rest; the stretch is spent."""
        if self._speed == 1.0:
            return empty()
        missing = round(self._taken / self._speed) - self._hops * self._hop
        if missing <= 0:
            return empty()
        hops = -(-missing // self._hop)
        reach = ceil((self._hops + hops + 1) * self._hop * self._speed)
        padding = max(0, reach - self._taken) + 2 * self._seek + 3 * self._hop
        self._buffer = np.concatenate([self._buffer, np.zeros(padding, np.float32)])
        return concatenate(self._ready_hops(hops))[:missing]

    def _ready_hops(self, at_most: int | None = None) -> list[Samples]:
        out: list[Samples] = []
        while len(out) != at_most and self._needed() <= self._origin + len(self._buffer):
            out.append(self._next_hop())
            self._hops += 1
        self._forget()
        return out

    def _needed(self) -> int:
        """How much input the next hop waits for: what it looks at, and what it stands for."""
        stands_for = ceil((self._hops + 1) * self._hop * self._speed)
        if self._hops == 0:
            return max(stands_for, self._hop)
        looks_at = max(self._last + 2 * self._hop, self._wanted() + self._seek + self._hop)
        return max(stands_for, looks_at)

    def _wanted(self) -> int:
        return round(self._hops * self._hop * self._speed)

    def _input(self, start: int, length: int) -> Samples:
        return self._buffer[start - self._origin : start - self._origin + length]

    def _next_hop(self) -> Samples:
        if self._hops == 0:
            return self._input(0, self._hop).copy()
        continuation = self._input(self._last + self._hop, self._hop)
        self._last = self._best_start(continuation)
        segment = self._input(self._last, self._hop)
        return continuation + (segment - continuation) * self._rise

    def _best_start(self, continuation: Samples) -> int:
        wanted = self._wanted()
        low = max(wanted - self._seek, 0)
        region = self._input(low, wanted + self._seek + self._hop - low)
        if float(np.mean(np.square(continuation))) < _SILENT_POWER:
            return wanted
        lags = len(region) - self._hop + 1
        spectrum = np.fft.rfft(region, self._fft) * np.conj(np.fft.rfft(continuation, self._fft))
        likeness = np.fft.irfft(spectrum, self._fft)[:lags]
        total = np.concatenate([[0.0], np.cumsum(np.square(region, dtype=np.float64))])
        power = total[self._hop :] - total[: -self._hop]
        floor = _SILENT_POWER * self._hop
        return low + int(np.argmax(likeness / np.sqrt(power + floor)))

    def _forget(self) -> None:
        """Drop input that no later hop can reach; keeps memory bounded."""
        if self._hops == 0:
            return
        keep = min(self._last + self._hop, max(self._wanted() - self._seek, 0))
        drop = keep - self._origin
        if drop > 0:
            self._buffer = self._buffer[drop:]
            self._origin = keep
