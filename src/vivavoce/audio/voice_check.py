"""Whether a recording can become a voice at all, whatever the engine."""

from __future__ import annotations

import numpy as np

from vivavoce.errors import InvalidAudio
from vivavoce.types import Samples

MIN_PEAK = 1e-3
"""The loudest sample that is needed: -60 dB of full scale, 32 steps of a 16-bit recording."""

MIN_SOUND_S = 0.25
"""Less sound than this is a syllable; nobody can be recognized by it."""

_FRAME_S = 0.01
_AUDIBLE = 5e-4
_SILENCE = 3e-5  # less than one step of 16 bits


def check_voice_recording(samples: Samples, sample_rate_hz: int, param: str | None = None) -> None:
    """Raise InvalidAudio, with ``param``, for mono sound (n,) that no voice can be made of.

    That is silence, sound below audibility, or less than ``MIN_SOUND_S`` of sound between silence.
    What is only quiet passes. A constant offset counts as silence.
    """
    if samples.ndim != 1 or not len(samples) or not np.issubdtype(samples.dtype, np.floating):
        raise InvalidAudio("The recording is not mono sound in floats.", param=param)
    if not np.isfinite(samples).all():
        raise InvalidAudio("The recording holds samples that are not numbers.", param=param)
    sound = np.abs(samples - np.float32(samples.mean(dtype=np.float64)))
    peak = float(sound.max())
    if peak < _SILENCE:
        raise InvalidAudio("The recording is silent.", param=param)
    if peak < MIN_PEAK:
        raise InvalidAudio(
            f"The recording is too quiet to be heard: its peak is at {20 * np.log10(peak):.0f} dB"
            f" of full scale; at least {20 * np.log10(MIN_PEAK):.0f} dB is needed.",
            param=param,
        )
    sound_s = _sound_s(sound, sample_rate_hz)
    if sound_s < MIN_SOUND_S:
        raise InvalidAudio(
            f"The recording holds {sound_s:.2f} s of sound; at least {MIN_SOUND_S:g} s is needed.",
            param=param,
        )


def _sound_s(sound: Samples, sample_rate_hz: int) -> float:
    """How long it is audible, in frames of 10 ms."""
    frame = max(round(_FRAME_S * sample_rate_hz), 1)
    starts = np.arange(0, len(sound), frame)
    loud = np.maximum.reduceat(sound, starts) >= _AUDIBLE
    lengths = np.diff(np.append(starts, len(sound)))
    return float(lengths[loud].sum()) / sample_rate_hz
