"""The inverse short-time Fourier transform at the decoder's end, in matrices and in numpy.

Frames of 1,920 (periodic Hann window) at a hop of 480, overlapped, divided by
the windows' energy there, and cut by 720 on both sides ("same" padding): T frames make 480 * T
samples. Vocos (Siuzdak 2023) describes the head this belongs to.

A real frame is the sum of a part that is even around its middle and one that is odd, and half of
each tells the rest: two matrices of 961 x 961 do what one of 1,922 x 1,920 would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vivavoce.engines.neutts.codec.codec import HOP

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME = 4 * HOP
BINS = FRAME // 2 + 1
CUT = (FRAME - HOP) // 2
MAX_MAGNITUDE = 1e2
"""Magnitudes are the exponential of what the network says, at most this."""


def hann() -> NDArray[np.float64]:
    """The periodic Hann window, (1920,)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)


def half_bases() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two (961, 961), bins by samples 0..960 of a windowed frame.

    Real parts times the first is the even half, imaginary parts times the second the odd half:
    sample n is even + odd, and sample 1920 - n is even - odd.
    """
    weight = np.full((BINS, 1), 2.0 / FRAME)
    weight[[0, -1]] = 1.0 / FRAME
    # k * n modulo the period, so that the angle is exact.
    angle = 2 * np.pi / FRAME * (np.outer(np.arange(BINS), np.arange(BINS)) % FRAME)
    window = hann()[:BINS]
    return weight * np.cos(angle) * window, -weight * np.sin(angle) * window


def istft(real: NDArray[np.float64], imaginary: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spectra (T, 961) each to samples (480 * T,), plainly written out."""
    frames = np.fft.irfft(real + 1j * imaginary, FRAME) * hann()
    total = np.zeros((len(frames) - 1) * HOP + FRAME)
    energy = np.zeros_like(total)
    for number, frame in enumerate(frames):
        at = slice(number * HOP, number * HOP + FRAME)
        total[at] += frame
        energy[at] += hann() ** 2
    return (total / np.where(energy > 0, energy, 1))[CUT:-CUT]
