"""Turns codes that arrive one after another into sound without seams.

The decoder looks in both directions, so a piece is decoded inside a window: ``lookback`` codes
before it (of the reference, then of what was spoken), the piece, ``lookforward`` codes after it.
The first ``crossfade`` codes of a piece are faded over from the window before, which has decoded
them too. Each code is decoded a bounded number of times, and n codes give exactly 480 * n samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vivavoce.engines.neutts.codec.codec import HOP, Codec, Codes
from vivavoce.types import Samples


@dataclass(frozen=True, slots=True)
class Schedule:
    """Sizes in codes (20 ms each). ``chunks`` are the pieces in order; the last one repeats.

    The first sound needs ``chunks[0] + lookforward`` codes. ``crossfade`` is at most
    ``lookforward`` and the smallest chunk.
    """

    chunks: tuple[int, ...] = (8, 15, 25, 50)
    lookback: int = 25
    lookforward: int = 5
    crossfade: int = 2

    def __post_init__(self) -> None:
        if not self.chunks or min(self.chunks) < 1 or min(self.lookback, self.lookforward) < 0:
            raise ValueError(f"not a schedule: {self}")
        if not 0 <= self.crossfade <= min(self.lookforward, *self.chunks):
            raise ValueError(f"crossfade is longer than lookforward or a chunk: {self}")


@dataclass(frozen=True, slots=True)
class Window:
    """Codes to decode at once, and which of them are to be heard: ``[keep, keep + chunk)``."""

    codes: Codes
    keep: int
    chunk: int


class CodecStream:
    """One utterance. Not thread safe, but ``window``, ``Codec.decode`` elsewhere, and ``accept``
    let codes be pushed while a window is being decoded; at most one window is open at a time.
    """

    def __init__(
        self, codec: Codec, reference_codes: Codes, schedule: Schedule | None = None
    ) -> None:
        """``reference_codes`` (R,), may be empty: what the voice said before, never heard."""

    @property
    def pending(self) -> int:
        """Codes pushed whose sound was not yet given out."""
        raise NotImplementedError

    @property
    def next_chunk(self) -> int:
        """Codes of the next piece as the schedule has it."""
        raise NotImplementedError

    @property
    def done(self) -> bool:
        """The end was told and all sound was given out."""
        raise NotImplementedError

    def push(self, codes: Codes) -> None:
        """Append codes (n,)."""

    def end(self) -> Samples:
        """No more codes come. Returns the rest where it is already decoded, else nothing."""
        raise NotImplementedError

    def ready(self, chunk: int | None = None) -> bool:
        """Whether a window can be decoded now: no window is open, and there are enough codes for
        a piece of ``chunk`` (default: ``next_chunk``), or any at all after the end."""
        raise NotImplementedError

    def window(self, chunk: int | None = None) -> Window:
        """Open the next window; ``chunk`` overrides the schedule's size. Needs ``ready``."""
        raise NotImplementedError

    def accept(self, window: Window, decoded: Samples) -> Samples:
        """Close the window with its sound (len(codes) * 480,); returns what is to be heard."""
        raise NotImplementedError

    def advance(self, chunk: int | None = None) -> Samples:
        """``window``, ``decode`` and ``accept`` in one."""
        raise NotImplementedError

    def finish(self) -> Samples:
        """End and decode all that is left, in pieces of the schedule."""
        raise NotImplementedError
