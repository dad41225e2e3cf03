"""Memory that captures share, behind a handle that outlives a capture which fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Memory = TypeVar("Memory")


class Pool(Generic[Memory]):
    """Who holds it need not know which memory is behind it.

    What fails while it is recorded may leave a device recording to that memory for ever, and what
    fails in a warm-up may leave memory that nobody holds. What is captured later has fresh memory,
    and what was captured before keeps the old.
    """

    def __init__(self, make: Callable[[], Memory]) -> None:
        self._make = make
        self.memory = make()

    @contextmanager
    def recording(self) -> Iterator[Memory]:
        """The memory, for what is warmed up and recorded in here: nothing else is to be in here."""
        try:
            yield self.memory
        except BaseException:
            self.memory = self._make()
            raise
