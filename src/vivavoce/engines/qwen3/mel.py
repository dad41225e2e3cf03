"""Log mel spectrograms, as the speaker encoder was trained on."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

SAMPLE_RATE_HZ = 24_000
WINDOW = 1024
HOP = 256
MIN_SAMPLES = (WINDOW - HOP) // 2 + 1
"""The shortest sound: its ends are mirrored."""

# Slaney's Auditory Toolbox (1998): linear up to 1 kHz, then logarithmic.
_BREAK_HZ = 1000.0
_HZ_PER_MEL = 200.0 / 3
_LOG_STEP = np.log(6.4) / 27


def hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frequencies on Slaney's mel scale."""
    above = _BREAK_HZ / _HZ_PER_MEL + np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(hz < _BREAK_HZ, hz / _HZ_PER_MEL, above)


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of ``hz_to_mel``."""
    above = np.maximum(mel - _BREAK_HZ / _HZ_PER_MEL, 0.0)
    return np.where(above > 0, _BREAK_HZ * np.exp(_LOG_STEP * above), mel * _HZ_PER_MEL)


@cache
def mel_filters(
    bands: int, window: int = WINDOW, sample_rate_hz: int = SAMPLE_RATE_HZ
) -> NDArray[np.float64]:
    """Triangles of equal area from 0 Hz to half the rate: [bands, window / 2 + 1]."""
    top = hz_to_mel(np.array([sample_rate_hz / 2]))[0]
    edges_hz = mel_to_hz(np.linspace(0.0, top, bands + 2))
    bins_hz = np.arange(window // 2 + 1) * sample_rate_hz / window
    widths_hz = np.diff(edges_hz)
    rising = (bins_hz - edges_hz[:-2, None]) / widths_hz[:-1, None]
    falling = (edges_hz[2:, None] - bins_hz) / widths_hz[1:, None]
    area: NDArray[np.float64] = 2.0 / (edges_hz[2:] - edges_hz[:-2])
    return np.maximum(0.0, np.minimum(rising, falling)) * area[:, None]


def log_mel(samples: Tensor, bands: int) -> Tensor:
    """Mono samples [L] at 24 kHz to [bands, ceil(L / 256) or one less], natural logarithm.

    L is at least ``MIN_SAMPLES``.
    """
    mirrored = functional.pad(samples[None, None], (MIN_SAMPLES - 1,) * 2, mode="reflect")[0, 0]
    window = torch.hann_window(WINDOW, dtype=samples.dtype, device=samples.device)
    spectrum = torch.stft(mirrored, WINDOW, HOP, WINDOW, window, center=False, return_complex=True)
    power = torch.view_as_real(spectrum).square().sum(-1)
    filters = torch.from_numpy(mel_filters(bands)).to(power)
    return (filters @ (power + 1e-9).sqrt()).clamp(min=1e-5).log()
