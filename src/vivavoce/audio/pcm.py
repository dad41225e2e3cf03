"""Float32 samples to and from signed 16-bit PCM, little-endian.

Full scale is 32,768 in both directions: -1.0 is -32,768, and +1.0 clips to 32,767. Every int16
value survives the way to float32 and back unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from vivavoce.errors import InvalidAudio
from vivavoce.types import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int16Samples: TypeAlias = NDArray[np.int16]
    """Mono sound, shape (n,), int16."""

BYTES_PER_SAMPLE = 2
_FULL_SCALE = np.float32(32768.0)

KNEE = 0.8
"""``amplify`` is exact up to here (of full scale); above it peaks are rounded off below 1.0."""


def empty() -> Samples:
    """No sound: shape (0,), float32."""
    return np.zeros(0, np.float32)


def concatenate(pieces: list[Samples]) -> Samples:
    """Join pieces of sound; none or one cost nothing."""
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces) if pieces else empty()


def finite(samples: Samples) -> Samples:
    """Float32 (n,) with 0 in the place of NaN and ±Inf."""
    return np.where(np.isfinite(samples), samples, np.float32(0.0))


def to_int16(samples: Samples) -> Int16Samples:
    """Float32 (n,) to int16 (n,): rounds to nearest (ties to even), clips; NaN and ±Inf are 0."""
    scaled = np.rint(np.asarray(samples, np.float32) * _FULL_SCALE)
    return np.clip(finite(scaled), -32768, 32767).astype(np.int16)


def from_int16(values: Int16Samples) -> Samples:
    """Int16 (n,) to float32 (n,) in [-1, 1); exact."""
    return np.asarray(values, np.int16).astype(np.float32) / _FULL_SCALE


def to_bytes(samples: Samples) -> bytes:
    """Float32 (n,) to 2n bytes of s16le; rounding as in ``to_int16``."""
    return to_int16(samples).astype("<i2", copy=False).tobytes()


def from_bytes(data: bytes | bytearray | memoryview) -> Samples:
    """2n bytes of s16le to float32 (n,). Raises InvalidAudio for an odd number of bytes."""
    if len(data) % BYTES_PER_SAMPLE:
        raise InvalidAudio(f"16-bit PCM cannot have an odd number of bytes ({len(data)}).")
    return from_int16(np.frombuffer(data, "<i2"))


def amplify(samples: Samples, gain_db: float) -> Samples:
    """Louder or softer sound, float32 (n,), always within (-1, 1) where it was amplified.

    Stateless, so chunks and the whole come out the same.
    """
    if gain_db == 0.0:
        return samples
    scaled = samples * np.float32(10.0 ** (gain_db / 20.0))
    level = np.abs(scaled)
    over = level > KNEE
    if over.any():
        rounded = KNEE + (1.0 - KNEE) * np.tanh((level[over] - KNEE) / (1.0 - KNEE))
        scaled[over] = np.copysign(rounded, scaled[over]).astype(np.float32)
    return scaled
