"""What is in flight, so that a draining server knows when it may go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from starlette.types import Message, Receive, Scope

_BODY_FIELDS = frozenset({b"content-length", b"transfer-encoding"})


class InFlight:
    """Counts HTTP requests and WebSocket utterances that are being served.

    A request is served from when all of it has arrived: half of one would hold up a drain.
    """

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

    @contextmanager
    def request(self, scope: Scope, receive: Receive) -> Iterator[Receive]:
        """One more from when a request has arrived, as the ``receive`` that is given tells."""
        with ExitStack() as stack:
            if all(name not in _BODY_FIELDS for name, _ in scope["headers"]):
                stack.enter_context(self.one())
                yield receive
                return
            arriving = True

            async def counted() -> Message:
                nonlocal arriving
                message = await receive()
                if arriving and not message.get("more_body", False):
                    arriving = False
                    stack.enter_context(self.one())
                return message

            yield counted

    async def none(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight; False if that takes longer than ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._none.wait()
        except TimeoutError:
            return False
        return True
