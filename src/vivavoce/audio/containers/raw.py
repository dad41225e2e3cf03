"""Sound without a container: 16-bit PCM, µ-law, A-law."""

from __future__ import annotations

from collections.abc import Callable

from vivavoce.audio.containers.base import Encoder
from vivavoce.types import Samples


class RawEncoder(Encoder):
    """Writes every sample at once through one stateless function."""

    def __init__(self, encode: Callable[[Samples], bytes]) -> None:
        self._encode = encode

    def push(self, samples: Samples) -> bytes:
        """Take float32 (n,); return all of it, encoded."""
        return self._encode(samples)
