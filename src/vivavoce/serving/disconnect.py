"""Work that ends the moment its client goes away.

Servers that announce ASGI ``spec_version`` 2.4 or later make Starlette notice a disconnect only at
the next send; a request that waits for a slot sends nothing. So ``receive`` is listened to here,
whatever the server announces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, None]) -> bool:
    """Run ``work``, cancelling it when the client disconnects. False if it was cancelled.

    The request's body must have been read. Raises what ``work`` raises.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _stop(leaving)
        finished = working.done()
        if not finished:
            await _stop(working)
    if finished:
        working.result()
    return finished


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _stop(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has cleaned up."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
