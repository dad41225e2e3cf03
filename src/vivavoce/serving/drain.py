"""What is in flight, so that a draining server knows when it may go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class InFlight:
    """Counts HTTP requests and WebSocket utterances that are being served."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    @property
    def count(self) -> int:
        """How many there are."""
        return self._count

    @contextmanager
    def one(self) -> Iterator[None]:
        """One more, for as long as the context lasts."""
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if self._count == 0:
                self._none.set()

    async def none(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight; False if that takes longer than ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._none.wait()
        except TimeoutError:
            return False
        return True
