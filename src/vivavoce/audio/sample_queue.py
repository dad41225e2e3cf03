"""Sound on its way from the thread that makes it to the thread that plays it."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from vivavoce.types import Samples


class SampleQueue:
    """A queue of samples with a lock that is held for moments only.

    ``underruns`` counts the times that the taker wanted more than there was before the end.
    """

    def __init__(self) -> None:
        self._pieces: deque[Samples] = deque()
        self._queued = 0
        self._ended = False
        self._changed = threading.Condition()
        self.underruns = 0

    def __len__(self) -> int:
        return self._queued

    @property
    def drained(self) -> bool:
        """Whether the end was announced and everything was taken."""
        return self._ended and not self._queued

    def put(self, samples: Samples) -> None:
        """Append float32 (n,); ignored after the end."""
        with self._changed:
            if len(samples) and not self._ended:
                self._pieces.append(samples)
                self._queued += len(samples)

    def take_into(self, out: Samples) -> int:
        """Fill ``out``, float32 (n,), and return how many samples were there; the rest is 0."""
        filled = 0
        with self._changed:
            while filled < len(out) and self._pieces:
                piece = self._pieces.popleft()
                part = piece[: len(out) - filled]
                out[filled : filled + len(part)] = part
                filled += len(part)
                if len(part) < len(piece):
                    self._pieces.appendleft(piece[len(part) :])
            self._queued -= filled
            self.underruns += filled < len(out) and not self._ended
            self._changed.notify_all()
        out[filled:] = np.float32(0.0)
        return filled

    def end(self) -> None:
        """Announce that nothing more comes."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def drop(self) -> None:
        """Forget everything and end."""
        with self._changed:
            self._pieces.clear()
            self._queued = 0
            self._ended = True
            self._changed.notify_all()

    def wait_until_at_most(self, samples: int, timeout_s: float | None = None) -> bool:
        """Wait until no more than so many samples are queued; False if time ran out."""
        with self._changed:
            return self._changed.wait_for(lambda: self._queued <= samples, timeout_s)
