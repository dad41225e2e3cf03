"""Kaldi's log mel filter bank as w2v-BERT 2.0 was trained on it, in numpy.

25 ms frames every 10 ms, each without its mean, pre-emphasised by 0.97, under a Povey window
(Hann to the power of 0.85), 512-point power spectra in 80 bands from 20 Hz to 8 kHz, triangular on
the mel scale 1127 ln(1 + f / 700). Each band is normalized over the recording, and two frames
make one vector.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from vivavoce.types import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME, HOP, FFT = 400, 160, 512
RATE_HZ = 16_000
BANDS = 80
LOW_HZ = 20.0
STACKED = 2
EMPHASIS = 0.97
FULL_SCALE = 32_768
FLOOR = float(np.finfo(np.float32).eps)


def stacked_features(samples: Samples) -> NDArray[np.float32]:
    """Mono 16 kHz (n,), n >= 560, to normalized features (frames // 2, 160)."""
    bands = log_mel(samples)
    mean, spread = bands.mean(0), bands.var(0, ddof=1)
    normal = (bands - mean) / np.sqrt(spread + 1e-7)
    whole = len(normal) // STACKED * STACKED
    return normal[:whole].reshape(-1, STACKED * BANDS).astype(np.float32)


def log_mel(samples: Samples) -> NDArray[np.float32]:
    """Mono 16 kHz (n,) to (1 + (n - 400) // 160, 80), natural logarithms."""
    scaled = samples.astype(np.float64) * FULL_SCALE
    frames = np.lib.stride_tricks.sliding_window_view(scaled, FRAME)[::HOP]
    frames = frames - frames.mean(1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], 1)
    window = np.hanning(FRAME) ** 0.85
    power = np.abs(np.fft.rfft((frames - EMPHASIS * before) * window, FFT)) ** 2
    return np.log(np.maximum(power @ _filters(), FLOOR)).astype(np.float32)


@cache
def _filters() -> NDArray[np.float64]:
    """(257, 80)."""
    low, high = _mel(np.array([LOW_HZ, RATE_HZ / 2])).tolist()
    edges = np.linspace(low, high, BANDS + 2)
    at = _mel(np.arange(FFT // 2 + 1) * RATE_HZ / FFT)[:, None]
    widths = np.diff(edges)
    rising, falling = (at - edges[:-2]) / widths[:-1], (edges[2:] - at) / widths[1:]
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return filters


def _mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1127.0 * np.log(1.0 + hz / 700.0)
