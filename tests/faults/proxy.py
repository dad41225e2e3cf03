"""A TCP proxy on loopback that spoils connections on purpose, as networks do.

What it does is a ``Toxics``: delay and jitter, small slices, a black hole (the connection stays and
nothing passes any more), a reset, and a close that the other side hears of late. The names are
those of toxiproxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from faults.rawcalls import RST_ON_CLOSE

READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Toxics:
    """How a connection is spoiled. Bytes count what the server has sent; None: never.

    ``latency_ms`` and up to ``jitter_ms`` more pass before each piece; a piece has at most
    ``slice_bytes``. ``slow_close_ms`` is how late each side hears that the other has closed.
    """

    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    slice_bytes: int = READ_BYTES
    black_hole_after_bytes: int | None = None
    reset_after_bytes: int | None = None
    slow_close_ms: float = 0.0


@dataclass(slots=True)
class Proxy:
    """A proxy that runs. ``connections`` are open now; ``seen`` were in all."""

    port: int
    connections: int = 0
    seen: int = 0


@asynccontextmanager
async def proxying(upstream_port: int, toxics: Toxics, seed: int = 0) -> AsyncIterator[Proxy]:
    """Run a proxy to a loopback port until left."""
    draw = random.Random(seed)
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        proxy.seen += 1
        proxy.connections += 1
        try:
            # Only this proxy's end cancels it; asyncio complains of a cancelled handler.
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await _connect(reader, writer, upstream_port, toxics, draw)
        finally:
            proxy.connections -= 1
            tasks.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy = Proxy(server.sockets[0].getsockname()[1])
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def _connect(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    upstream_port: int,
    toxics: Toxics,
    draw: random.Random,
) -> None:
    up_reader, up_writer = await asyncio.open_connection("127.0.0.1", upstream_port)
    both = (writer, up_writer)
    up = asyncio.create_task(_pass_on(reader, up_writer, both, _without_limits(toxics), draw))
    down = asyncio.create_task(_pass_on(up_reader, writer, both, toxics, draw))
    try:
        await asyncio.wait({up, down})
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
        for each in both:
            each.close()


def _without_limits(toxics: Toxics) -> Toxics:
    """What callers send is only delayed and sliced."""
    return Toxics(
        toxics.latency_ms,
        toxics.jitter_ms,
        toxics.slice_bytes,
        slow_close_ms=toxics.slow_close_ms,
    )


async def _pass_on(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    toxics: Toxics,
    draw: random.Random,
) -> None:
    """One direction, until its sender has closed."""
    passed = 0
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(min(toxics.slice_bytes, READ_BYTES)):
            wait_ms = toxics.latency_ms + draw.random() * toxics.jitter_ms
            if wait_ms:
                await asyncio.sleep(wait_ms / 1000)
            if _reached(passed + len(data), toxics.reset_after_bytes):
                for each in both:
                    _reset(each)
                return
            if _reached(passed + len(data), toxics.black_hole_after_bytes):
                await asyncio.Event().wait()  # until the proxy or the other direction ends
            writer.write(data)
            await writer.drain()
            passed += len(data)
    await asyncio.sleep(toxics.slow_close_ms / 1000)
    with contextlib.suppress(OSError):
        writer.close()


def _reached(count: int, limit: int | None) -> bool:
    return limit is not None and count > limit


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
    writer.transport.abort()
