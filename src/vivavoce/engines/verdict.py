"""The failure of an engine for good, and everybody who must hear of it, wherever they wait.

The engine's thread tells those whose utterances it has. Others wait for something else: for a slot
that a thread which hangs will never give back, for such a thread itself, for a codec, or for a
client that reads slowly. What runs in ``Verdict.heard`` ends with the failure there and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias

from vivavoce.errors import EngineFailed

Told: TypeAlias = Callable[[EngineFailed], bool]
"""Is told first; False where there is nothing left to end."""


@dataclass(eq=False, slots=True)
class _Hearer:
    """Something under way; a timeout without a time is what ends it."""

    event_loop: asyncio.AbstractEventLoop
    end: asyncio.Timeout
    told: Told | None


class Verdict:
    """``failure`` is None for as long as the engine works."""

    def __init__(self) -> None:
        self.failure: EngineFailed | None = None
        self._hearers: set[_Hearer] = set()

    def pronounce(self, failure: EngineFailed) -> None:
        """Tell everybody, once; from any thread."""
        if self.failure is not None:
            return
        self.failure = failure  # before the others are looked at: who comes now, sees it
        for hearer in list(self._hearers):
            with suppress(RuntimeError):  # a loop that closed took its tasks with it
                hearer.event_loop.call_soon_threadsafe(self._tell, hearer, failure)

    @asynccontextmanager
    async def heard(self, told: Told | None = None) -> AsyncIterator[None]:
        """Raise EngineFailed out of what runs in here, at whatever it waits, once the engine fails.

        It must be left by the task that entered it; where another one leaves it, ``told`` alone
        can end something.
        """
        hearer = _Hearer(asyncio.get_running_loop(), asyncio.timeout(None), told)
        self._hearers.add(hearer)
        try:
            if self.failure is not None:
                raise self.failure
            async with hearer.end:
                yield
        except TimeoutError:
            if hearer.end.expired() and self.failure is not None:
                raise self.failure from None
            raise
        finally:
            self._hearers.discard(hearer)

    def _tell(self, hearer: _Hearer, failure: EngineFailed) -> None:
        if hearer in self._hearers and (hearer.told is None or hearer.told(failure)):
            hearer.end.reschedule(hearer.event_loop.time())
