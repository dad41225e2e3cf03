"""TLS: connections that count, and are bounded in time, from before their handshake.

Left to itself asyncio tells nobody of a connection until its handshake is over, and gives that a
minute: clients who begin one and stop there would hold every file that the server may open. So
connections are accepted here, take their place, and become HTTP connections once they are secure.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence

from vivavoce.errors import SettingsError
from vivavoce.serving.connections import Connections, Rank, peer_of
from vivavoce.settings import Settings

log = logging.getLogger(__name__)

ACCEPT_AT_ONCE = 64
RETRY_S = 1.0
"""How long nothing is accepted after the system had no room for one more."""


class TlsListener:
    """Accepts connections and makes them secure; ``make`` gives each handshake its protocol."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        context: ssl.SSLContext,
        connections: Connections,
        make: Callable[[Handshake], asyncio.Protocol],
    ) -> None:
        self._listeners = listeners
        self._context = context
        self._connections = connections
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[Handshake] = set()
        self._closed = False
        for listener in listeners:
            listener.setblocking(False)
            self._listen(listener)

    def close(self) -> None:
        """Accept no more, and give up the handshakes under way; the sockets are the caller's."""
        self._closed = True
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
        for handshake in list(self._handshakes):
            handshake.give_up()

    def _listen(self, listener: socket.socket) -> None:
        if not self._closed:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            try:
                raw, name = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("connections cannot be accepted", extra={"why": error.strerror})
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(RETRY_S, self._listen, listener)
                return
            raw.setblocking(False)
            self._begin(raw, Handshake(peer_of(name), self._loop.time()))

    def _begin(self, raw: socket.socket, handshake: Handshake) -> None:
        if self._connections.enter(handshake):
            self._handshakes.add(handshake)
            task = handshake.task = self._loop.create_task(self._secure(handshake, raw))
            task.add_done_callback(lambda _: self._end(handshake, raw))
        else:
            raw.close()  # nothing can be told before the handshake

    def _end(self, handshake: Handshake, raw: socket.socket) -> None:
        self._connections.leave(handshake)
        self._handshakes.discard(handshake)
        if not handshake.begun:  # given up before its task ran; from then on asyncio closes it
            raw.close()

    async def _secure(self, handshake: Handshake, raw: socket.socket) -> None:
        handshake.begun = True
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._make(handshake),
                raw,
                ssl=self._context,
                ssl_handshake_timeout=self._connections.limits.head_timeout_s,
            )
        except OSError as error:  # of TLS, too; asyncio has closed the connection
            log.debug("no TLS handshake", extra={"peer": handshake.peer, "why": str(error)})


class Handshake:
    """A connection that is not secure yet. It has a time limit of its own."""

    unsent_bytes = 0
    rank = Rank.AWAITING_REQUEST

    def __init__(self, peer: str, now_s: float) -> None:
        self.peer = peer
        self.quiet_since_s = now_s
        self.begun = False
        self.task: asyncio.Task[None] | None = None

    def give_up(self) -> None:
        """Close it at once."""
        if self.task is not None:
            self.task.cancel()

    def watch(self, now_s: float) -> None:
        """Nothing to do: asyncio ends what takes too long."""


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The server's certificate and key. Raises SettingsError for one that cannot be used."""
    if settings.ssl_certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile)
    except OSError as error:
        raise SettingsError(f"The TLS certificate or key: {error}", param="ssl_certfile") from error
    return context
