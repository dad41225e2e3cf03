"""What every encoder can do."""

from __future__ import annotations

from abc import ABC, abstractmethod

from vivavoce.types import Samples


class Encoder(ABC):
    """Writes one stream of sound as bytes; spent after ``finish`` or ``close``."""

    @abstractmethod
    def push(self, samples: Samples) -> bytes:
        """Take float32 (n,); return the bytes that are ready, maybe none."""

    def finish(self) -> bytes:
        """Return the remaining bytes and give everything back."""
        return b""

    def close(self) -> None:  # noqa: B027 - most encoders hold nothing
        """Give everything back without finishing, for abandoned streams. Harmless after finish."""
