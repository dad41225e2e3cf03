"""Streaming trim of the silence around one clause, with soft edges.

Levels are RMS over blocks of 5 ms counted from the clause's start, so that chunking cannot alter
the result.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from vivavoce.audio.pcm import concatenate, empty
from vivavoce.types import Samples

BLOCK_MS = 5.0
FADE_MS = 4.0
MAX_HELD_S = 10.0
# Once sounding, a block counts as sound until it is this much below the threshold.
HYSTERESIS_DB = 10.0


@cache
def _rise(length: int) -> Samples:
    """Raised cosine from 0 to 1, shape (length,)."""
    return (0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / length)).astype(np.float32)


class ClauseTrimmer:
    """Drops the silence before and after a clause and keeps that inside it.

    Leading silence goes as it comes (only ``lead_ms`` before the first sound is kept), inner
    silence is held back until sound resumes, trailing silence is dropped at ``finish`` but for
    ``tail_ms``. The edges fade over 4 ms. Sound itself is held back by at most two blocks
    (10 ms). At most ``MAX_HELD_S`` of silence is held: what is older counts as inner.

    ``threshold_db`` is relative to full scale; sound starts above it and ends 10 dB below it.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        threshold_db: float = -50.0,
        lead_ms: float = 10.0,
        tail_ms: float = 20.0,
    ) -> None:
        self._block = max(1, round(sample_rate_hz * BLOCK_MS / 1000))
        self._fade = max(1, round(sample_rate_hz * FADE_MS / 1000))
        self._lead = round(sample_rate_hz * lead_ms / 1000)
        self._tail = round(sample_rate_hz * tail_ms / 1000)
        self._max_held = round(sample_rate_hz * MAX_HELD_S / self._block)
        self._start_power = 10 ** (threshold_db / 10)
        self._stay_power = 10 ** ((threshold_db - HYSTERESIS_DB) / 10)
        self._partial = empty()
        self._pre_roll = empty()
        self._sound: Samples | None = None  # the last block with sound, not given yet
        self._silence: list[Samples] = []  # what came after it
        self._given = 0

    def push(self, samples: Samples) -> Samples:
        """Take float32 (n,); return what is certain to stay, float32 (m,), m may be 0."""
        self._partial = np.concatenate([self._partial, samples])
        whole = len(self._partial) // self._block * self._block
        blocks = self._partial[:whole].reshape(-1, self._block)
        self._partial = self._partial[whole:]
        out: list[Samples] = []
        for block, power in zip(blocks, _powers(blocks), strict=True):
            self._take(block, power, out)
        return self._fade_in(concatenate(out))

    def finish(self) -> Samples:
        """Return the end of the clause, faded out; the trimmer is spent."""
        out: list[Samples] = []
        if len(self._partial):
            power = float(np.mean(np.square(self._partial, dtype=np.float64)))
            self._take(self._partial, power, out)
        if self._sound is None:
            return empty()
        silence = concatenate(self._silence)[: self._tail]
        end = self._fade_in(np.concatenate([*out, self._sound, silence]))
        fade = min(self._fade, len(end))
        end[len(end) - fade :] *= _rise(fade)[::-1]
        return end

    def _take(self, block: Samples, power: float, out: list[Samples]) -> None:
        sounding = self._sound is not None and not self._silence
        if power >= (self._stay_power if sounding else self._start_power):
            self._take_sound(block, out)
        elif self._sound is None:
            kept = np.concatenate([self._pre_roll, block])
            self._pre_roll = kept[max(0, len(kept) - self._lead) :]
        else:
            self._silence.append(block)
            if len(self._silence) > self._max_held:
                out.append(self._sound)
                self._sound = self._silence.pop(0)

    def _take_sound(self, block: Samples, out: list[Samples]) -> None:
        if self._sound is None:
            out.append(self._pre_roll)
        else:
            out.extend([self._sound, *self._silence])
        self._sound = block
        self._silence = []

    def _fade_in(self, samples: Samples) -> Samples:
        """Apply what is left of the fade-in; returns a new array, never the caller's own."""
        faded = samples.astype(np.float32, copy=True)
        rising = _rise(self._fade)[self._given : self._given + len(faded)]
        faded[: len(rising)] *= rising
        self._given += len(faded)
        return faded


def _powers(blocks: Samples) -> list[float]:
    """Mean square of each row of (b, n)."""
    powers: list[float] = np.mean(np.square(blocks, dtype=np.float64), axis=1).tolist()
    return powers
