"""Who may use the engine: a fixed number of slots, a bounded queue, real-time requests first.

Runs in one event loop; nothing here needs a lock. The answer "full" is immediate.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from vivavoce.errors import Busy, DeadlineExceeded
from vivavoce.types import Priority

RETRY_AFTER_MIN_MS = 200
RETRY_AFTER_MAX_MS = 30_000
FIRST_GUESS_HOLD_S = 2.0
SMOOTHING = 0.2


@dataclass(order=True, slots=True)
class _Waiter:
    priority: Priority
    order: int
    turn: asyncio.Future[None] = field(compare=False)


Report: TypeAlias = Callable[[int, int], None]
"""Takes the slots taken and the requests in the queue, whenever they change."""

Meanwhile: TypeAlias = Callable[[], Awaitable[None]]
"""What to do once a request has been taken, while it waits or before it begins."""


class Admission:
    """``capacity`` slots and ``max_waiting`` queue places (None: no bound)."""

    def __init__(
        self, capacity: int, max_waiting: int | None, report: Report | None = None
    ) -> None:
        self.capacity = capacity
        self.max_waiting = max_waiting
        self._report = report or _nobody
        self._running = 0
        self._waiters: list[_Waiter] = []
        self._order = itertools.count()
        self._hold_s = FIRST_GUESS_HOLD_S

    @property
    def running(self) -> int:
        """Slots taken."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiters)

    @asynccontextmanager
    async def slot(
        self,
        priority: Priority = Priority.REALTIME,
        patience_s: float | None = None,
        meanwhile: Meanwhile | None = None,
    ) -> AsyncIterator[float]:
        """Hold a slot around a whole request; yields the seconds that were waited for it.

        Raises Busy at once when the queue is full, DeadlineExceeded after ``patience_s`` in it.
        ``meanwhile`` runs as soon as the request has a slot or a place; what it raises gives that
        back.
        """
        waiter, taken_s = self._enter(priority), time.monotonic()
        waited_s, patience = 0.0, asyncio.timeout(patience_s)
        try:
            async with patience:
                if meanwhile is not None:
                    await meanwhile()
                if waiter is not None:
                    await waiter.turn
                    waited_s = time.monotonic() - taken_s
        except BaseException as error:
            self._give_up(waiter)
            if isinstance(error, TimeoutError) and patience.expired():
                raise DeadlineExceeded(f"No slot within {patience_s:g} s.") from None
            raise
        began_s = time.monotonic()
        try:
            yield waited_s
        finally:
            self._hold_s += SMOOTHING * (time.monotonic() - began_s - self._hold_s)
            self._leave()

    def withhold(self, until: asyncio.Future[None]) -> None:
        """Keep the slot that its holder is about to leave taken until ``until`` is done.

        For work that goes on without its caller: nobody else is given the slot before it ends.
        """
        self._count(+1)
        until.add_done_callback(lambda _: self._leave())

    def retry_after_ms(self) -> int:
        """When a slot is likely free: the queue's length times how long slots are held."""
        expected_s = self._hold_s * (len(self._waiters) + 1) / self.capacity
        return min(max(round(expected_s * 1000), RETRY_AFTER_MIN_MS), RETRY_AFTER_MAX_MS)

    def _enter(self, priority: Priority) -> _Waiter | None:
        """Take a slot (None) or a place. Raises Busy."""
        if self._running < self.capacity:
            self._count(+1)
            return None
        if self.max_waiting is not None and len(self._waiters) >= self.max_waiting:
            raise Busy(
                f"All {self.capacity} slots are taken and {len(self._waiters)} requests wait.",
                retry_after_ms=self.retry_after_ms(),
            )
        waiter = _Waiter(priority, next(self._order), asyncio.Future())
        heapq.heappush(self._waiters, waiter)
        self._count(0)
        return waiter

    def _give_up(self, waiter: _Waiter | None) -> None:
        """Return what ``_enter`` gave, before it was used."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            heapq.heapify(self._waiters)
            self._count(0)
        elif waiter is None or not waiter.turn.cancelled():
            self._leave()  # a slot, from the beginning or since

    def _leave(self) -> None:
        # More are taken than there are only while a slot's holder leaves and the slot is withheld.
        while self._waiters and self._running <= self.capacity:
            waiter = heapq.heappop(self._waiters)
            if not waiter.turn.done():
                waiter.turn.set_result(None)
                self._count(0)
                return
        self._count(-1)

    def _count(self, change: int) -> None:
        self._running += change
        self._report(self._running, len(self._waiters))


def _nobody(running: int, waiting: int) -> None:
    """Where nobody asks how full it is."""
