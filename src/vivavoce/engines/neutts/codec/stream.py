"""Turns codes that arrive one after another into sound without seams.

The decoder looks in both directions, so a piece is decoded inside a window: ``lookback`` codes
before it (of the reference, then of what was spoken), the piece, ``lookforward`` codes after it.
The first ``crossfade`` codes of a piece are faded over from the window before, which has decoded
them too. Each code is decoded a bounded number of times, and n codes give exactly 480 * n samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivavoce.errors import EngineError
from vivavoce.types import Samples

Codes: TypeAlias = NDArray[np.int32]
"""Codes in order, shape (T,), int32, each 0..65535."""

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


_NOTHING: Samples = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Sizes in codes (20 ms each). ``chunks`` are the pieces in order; the last one repeats.

    The first sound needs ``chunks[0] + lookforward`` codes; ``crossfade`` <= ``lookforward``.
    """

    chunks: tuple[int, ...] = (8, 15, 25, 50)
    lookback: int = 25
    lookforward: int = 5
    crossfade: int = 2

    def __post_init__(self) -> None:
        if not self.chunks or min(self.chunks) < 1 or self.lookback < 0:
            raise ValueError(f"not a schedule: {self}")
        if not 0 <= self.crossfade <= self.lookforward:
            raise ValueError(f"crossfade is longer than lookforward: {self}")

    def chunk(self, place: int) -> int:
        """The size of a piece, counted from 0."""
        return self.chunks[min(place, len(self.chunks) - 1)]


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
        self._codec = codec
        self._schedule = schedule or Schedule()
        self._codes: list[int] = np.asarray(reference_codes).tolist()
        self._given = len(self._codes)
        self._pieces = 0
        self._open: Window | None = None
        self._held = _NOTHING
        self._ended = False

    @property
    def pending(self) -> int:
        """Codes pushed whose sound was not yet given out."""
        return len(self._codes) - self._given

    @property
    def next_chunk(self) -> int:
        """Codes of the next piece as the schedule has it."""
        return self._schedule.chunk(self._pieces)

    @property
    def pieces(self) -> int:
        """How many were given out."""
        return self._pieces

    @property
    def done(self) -> bool:
        """The end was told and all sound was given out."""
        return self._ended and self.pending == 0

    def push(self, codes: Codes) -> None:
        """Append codes (n,)."""
        if self._ended:
            raise ValueError("codes after the end")
        self._codes += np.asarray(codes).tolist()

    def end(self) -> Samples:
        """No more codes come. Returns the rest where it is already decoded, else nothing."""
        self._ended = True
        if self._open is not None or len(self._held) < self.pending * HOP:
            return _NOTHING
        rest = self._held[: self.pending * HOP]
        self._given, self._held = len(self._codes), _NOTHING
        return rest

    def ready(self, chunk: int | None = None) -> bool:
        """Whether a window can be decoded now: no window is open, and there are enough codes for
        a piece of ``chunk`` (default: ``next_chunk``), or any at all after the end."""
        if self._open is not None:
            return False
        wanted = self._piece(chunk) + self._schedule.lookforward
        return self.pending >= (1 if self._ended else wanted)

    def window(self, chunk: int | None = None) -> Window:
        """Open the next window; ``chunk`` overrides the schedule's size. Needs ``ready``.

        After the end, a rest no longer than a piece and its ``lookforward`` is taken whole. Where
        the codec decodes some lengths faster, the window reaches further back to have one.
        """
        if not self.ready(chunk):
            raise ValueError("no window is ready")
        piece = self._piece(chunk)
        stop = self._given + piece + self._schedule.lookforward
        if self._ended and stop >= len(self._codes):
            stop, piece = len(self._codes), self.pending
        start = self._start(stop)
        codes = np.array(self._codes[start:stop], np.int32)
        self._open = Window(codes, self._given - start, piece)
        return self._open

    def accept(self, window: Window, decoded: Samples) -> Samples:
        """Close the window with its sound (len(codes) * 480,); returns what is to be heard.

        Raises EngineError for another number of samples.
        """
        if window is not self._open:
            raise ValueError("not the open window")
        self._open = None
        if len(decoded) != len(window.codes) * HOP:
            raise EngineError(
                f"The codec made {len(decoded)} samples of {len(window.codes)} codes."
            )
        fresh = self._faded(decoded[window.keep * HOP :])
        whole = self._ended and len(fresh) >= self.pending * HOP
        piece = self.pending if whole else window.chunk
        self._held = fresh[piece * HOP :].copy()
        self._given += piece
        self._pieces += 1
        return fresh[: piece * HOP]

    def advance(self, chunk: int | None = None) -> Samples:
        """``window``, ``decode`` and ``accept`` in one."""
        window = self.window(chunk)
        return self.accept(window, self._codec.decode(window.codes))

    def finish(self) -> Samples:
        """End and decode all that is left, in pieces of the schedule."""
        sound = [self.end()]
        while not self.done:
            sound.append(self.advance())
        return np.concatenate(sound)

    def _piece(self, chunk: int | None) -> int:
        return self.next_chunk if chunk is None else max(1, chunk)

    def _start(self, stop: int) -> int:
        size = stop - self._given + self._schedule.lookback
        fast = [each for each in self._codec.windows if each >= size]
        return max(0, stop - (fast[0] if fast else size))

    def _faded(self, fresh: Samples) -> Samples:
        """A copy of ``fresh`` whose beginning is faded over from the window before."""
        length = min(self._schedule.crossfade * HOP, len(self._held), len(fresh))
        rising = ((np.arange(length) + 0.5) / max(1, length)).astype(np.float32)
        faded = fresh.astype(np.float32)
        faded[:length] = self._held[:length] * (1 - rising) + faded[:length] * rising
        return faded
