"""Recordings made ready for the encoders: 16 kHz, mono, whole codes."""

from __future__ import annotations

import numpy as np

from vivavoce.errors import InvalidAudio
from vivavoce.types import Samples

RATE_HZ = 16_000
HOP_SAMPLES = 320
MIN_S, MAX_S = 0.5, 60.0
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 192_000
MAX_PEAK = 4.0
SILENCE = 1e-3


def prepare_recording(samples: Samples, rate_hz: int) -> Samples:
    """A mono recording (n,) at ``rate_hz`` as float32 at 16 kHz, with zeros at its end.

    The result has a multiple of 320 samples; 1 to 320 zeros are added, as in training. Raises
    InvalidAudio for one that is not mono floats, not finite, not on the scale of ±1, silent,
    or not 0.5 to 60 s long.
    """
    _check(samples, rate_hz)
    sound = samples.astype(np.float32)
    if rate_hz != RATE_HZ:
        import soxr

        sound = soxr.resample(sound, rate_hz, RATE_HZ, "HQ").astype(np.float32)
    return np.pad(sound, (0, HOP_SAMPLES - len(sound) % HOP_SAMPLES))


def _check(samples: Samples, rate_hz: int) -> None:
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise InvalidAudio(
            f"A reference recording is mono floats, not {samples.shape} of {samples.dtype}."
        )
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise InvalidAudio(
            f"The recording's sample rate is {rate_hz} Hz; "
            f"{MIN_RATE_HZ} to {MAX_RATE_HZ} are accepted."
        )
    if not MIN_S <= len(samples) / rate_hz <= MAX_S:
        raise InvalidAudio(
            f"The recording lasts {len(samples) / rate_hz:.2f} s; "
            f"{MIN_S:g} to {MAX_S:g} s are accepted."
        )
    if not np.isfinite(samples).all():
        raise InvalidAudio("The recording holds samples that are not numbers.")
    peak = float(np.abs(samples).max())
    if not SILENCE < peak <= MAX_PEAK:
        raise InvalidAudio(f"The recording's peak is {peak:.3g}; full scale is 1.")
