"""What every NeuCodec decoder offers, whatever it runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from vivavoce.types import Samples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Codes: TypeAlias = NDArray[np.int32]
    """Codes in order, shape (T,), int32, each 0..65535."""
else:
    Codes: TypeAlias = Any

SAMPLE_RATE_HZ = 24_000
HOP = 480
"""Samples a code."""
CODES_PER_S = SAMPLE_RATE_HZ // HOP
CODEBOOK_SIZE = 65_536


class Codec(Protocol):
    """A decoder: codes in, sound out. ``decode`` may be called from any one thread at a time."""

    @property
    def device(self) -> str:
        """Where it really runs: "cpu" or "cuda:0"."""

    @property
    def windows(self) -> tuple[int, ...]:
        """Numbers of codes that decode fastest, ascending; empty when any number is as good."""

    def decode(self, codes: Codes) -> Samples:
        """(T,) int32 to (T * 480,) float32; T >= 1.

        Raises InputError when a code is out of range or there is none, EngineError when the
        network fails.
        """

    def close(self) -> None:
        """Give back the memory; the codec is not used afterwards."""
