"""Made-up sounds and ways to cut them, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from vivavoce.types import Samples


class Processor(Protocol):
    """What every streaming processor can do."""

    def push(self, samples: Samples) -> Samples: ...

    def finish(self) -> Samples: ...


def tone(duration_s: float, sample_rate_hz: int, hz: float = 440.0, peak: float = 0.3) -> Samples:
    """A sine."""
    at_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    return (peak * np.sin(2 * np.pi * hz * at_s)).astype(np.float32)


def voice_like(duration_s: float, sample_rate_hz: int, hz: float = 200.0) -> Samples:
    """Seven harmonics with falling strength and a slow swell."""
    at_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    wave = sum(np.sin(2 * np.pi * hz * k * at_s) / k for k in range(1, 8))
    swell = 0.7 + 0.3 * np.sin(2 * np.pi * 3 * at_s)
    return (0.2 * wave * swell).astype(np.float32)


def noise(duration_s: float, sample_rate_hz: int, seed: int = 0, peak: float = 0.3) -> Samples:
    """White noise."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-peak, peak, round(duration_s * sample_rate_hz)).astype(np.float32)


def cut(samples: Samples, sizes: Sequence[int]) -> list[Samples]:
    """Pieces of the given sizes, over and over, until all of it is cut; zeros are empty pieces."""
    pieces, at, turn = [], 0, 0
    while at < len(samples):
        size = sizes[turn % len(sizes)] if any(sizes) else len(samples)
        pieces.append(samples[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


def stream(processor: Processor, pieces: Sequence[Samples]) -> Samples:
    """Everything a processor makes of the pieces."""
    return np.concatenate([*(processor.push(piece) for piece in pieces), processor.finish()])


def snr_db(wanted: Samples, got: Samples) -> float:
    """Signal-to-noise ratio of ``got`` against ``wanted``."""
    signal = np.sum(np.square(wanted, dtype=np.float64))
    error = np.sum(np.square(wanted.astype(np.float64) - got))
    return float(10 * np.log10(signal / max(error, 1e-30)))
