"""Who answers while there is no server: 503 with ``Retry-After`` to every request, at once.

As much of HTTP/1.1 (RFC 9112) as that needs: the head is read, the answer sent, the connection
closed once the client has had time to read it. An upgrade to a WebSocket is a request like any
other.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import socket
import ssl
import time
from contextlib import suppress

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 32 * 1024
MAX_CONNECTIONS = 512
HEAD_S = 5.0
LINGER_S = 1.0
"""How long what the client still sends is read: closing sooner would reset the connection, and the
client might lose the answer."""

BACKLOG = 2_048
MESSAGE = "The server is starting again."
CODE = "starting"


class StandIn:
    """Accepts connections from a listening socket that is shared with the server."""

    def __init__(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self._listener = listener
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._back_at_s = 0.0
        self._connections = 0

    async def open(self, back_in_s: float) -> None:
        """Accept connections; ``back_in_s`` is when a server is expected."""
        self._back_at_s = time.monotonic() + back_in_s
        if self._server is None:
            self._server = await asyncio.start_server(
                self._answer,
                sock=self._listener.dup(),
                ssl=self._tls,
                limit=MAX_HEAD_BYTES,
                backlog=BACKLOG,
            )

    def close(self) -> None:
        """Leave new connections to the server; those that are here are answered."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS:
                with suppress(OSError, TimeoutError):
                    await self._serve(reader, writer)
        finally:
            self._connections -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HEAD_S):
            head = await _head(reader)
        if not head:
            return
        writer.write(refusal(head, self._back_at_s - time.monotonic()))
        async with asyncio.timeout(LINGER_S):
            await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            while await reader.read(MAX_HEAD_BYTES):
                pass


async def _head(reader: asyncio.StreamReader) -> bytes:
    """A request's head, or what there is of it."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError:
        return await reader.read(MAX_HEAD_BYTES)


def refusal(head: bytes, back_in_s: float) -> bytes:
    """The whole answer to a request, in OpenAI's envelope."""
    wait_s = min(max(back_in_s, 0.2), 30.0)
    error = {"message": MESSAGE, "type": "server_error", "param": None, "code": CODE}
    body = json.dumps({"error": error}).encode()
    lines = (
        "HTTP/1.1 503 Service Unavailable",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"Retry-After: {math.ceil(wait_s)}",
        f"retry-after-ms: {round(wait_s * 1000)}",
        "Connection: close",
    )
    answer = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return answer if head.startswith(b"HEAD ") else answer + body
