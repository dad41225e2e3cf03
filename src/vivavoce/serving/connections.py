"""The connections of one server: how many there may be, and which one is given up for another.

Web servers for Python bound neither the number of connections nor the time that one may be silent,
so one client could hold them all. Here a new caller always finds room while any connection is not
in use. Every half second each connection is asked whether something has been waiting for too long.
"""

from __future__ import annotations

import asyncio
import enum
import ipaddress
import logging
import math
import socket
import struct
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

log = logging.getLogger(__name__)

BODY_ENDED = "vivavoce.body_ended_s"
"""ASGI extension of our server: when the whole request was there, on the monotonic clock."""

ABORT = "vivavoce.abort"
"""ASGI extension of our server: a function that drops the connection without flushing it."""

BUSY = "vivavoce.busy"
"""ASGI extension of our server's WebSockets: a function that is told whether one is in use."""

RESERVED_FILES = 64
FILES_A_CONNECTION = 2
"""Itself, and an upload or a whole answer that waits in a temporary file."""

QUIET_LOG_S = 10.0
STALLED_S = 5.0
FLUSH_LOOK_S = 0.05
NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What connections are bounded by; times in seconds.

    ``min_body_rate_bytes_s`` counts on average, once ``head_timeout_s`` has passed since the head;
    ``body_timeout_s`` is for a whole body, at whatever rate.
    ``stall_timeout_s`` is how long a client may take nothing of what was written for it.
    """

    max_connections: int = 1_000
    head_timeout_s: float = 10.0
    min_body_rate_bytes_s: float = 1_000.0
    stall_timeout_s: float = 30.0
    body_timeout_s: float = 300.0


class Rank(enum.IntEnum):
    """Which connections are given up first where there is no room for another."""

    AWAITING_REQUEST = 0
    RECEIVING_BODY = 1
    IDLE_SOCKET = 2
    STALLED = 3


class Connection(Protocol):
    """What is asked of a connection. ``quiet_since_s`` is in the event loop's time."""

    peer: str
    quiet_since_s: float

    @property
    def rank(self) -> Rank | None:
        """How readily it may be given up; None while it is in use."""

    @property
    def unsent_bytes(self) -> int:
        """What was written and has not left yet."""

    def give_up(self) -> None:
        """Close it at once."""

    def watch(self, now_s: float) -> None:
        """End what has been waiting for too long."""


class Connections:
    """Counts connections in and out. Use it from one event loop."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: set[Connection] = set()
        self._given_up = 0
        self._refused = 0
        self._told_s = -math.inf

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: Connection) -> bool:
        """Count one in, giving another one up where there is no room. False: it has to go.

        The one given up is of the lowest rank, then of the client with the most connections, then
        the one that has been quiet for longest: who fills the server up loses its own.
        """
        if len(self._open) >= self.limits.max_connections and not self._make_room():
            return False
        self._open.add(connection)
        return True

    def leave(self, connection: Connection) -> None:
        """Count one out. Idempotent."""
        self._open.discard(connection)

    def sweep(self, now_s: float) -> None:
        """Ask each connection to end what has been waiting for too long."""
        for connection in list(self._open):
            connection.watch(now_s)
        self._tell()

    async def flushed(self, timeout_s: float) -> bool:
        """Wait until all that was written has left; False if that takes longer than it may."""
        end_s = time.monotonic() + timeout_s
        while any(each.unsent_bytes for each in self._open):
            if time.monotonic() >= end_s:
                return False
            await asyncio.sleep(FLUSH_LOOK_S)
        return True

    def _make_room(self) -> bool:
        ranked = [(each.rank, each) for each in self._open]
        lowest = min((rank for rank, _ in ranked if rank is not None), default=None)
        if lowest is None:
            self._refused += 1
        else:
            held = Counter(each.peer for each in self._open)
            spare = (each for rank, each in ranked if rank is lowest)
            victim = min(spare, key=lambda each: (-held[each.peer], each.quiet_since_s))
            self._open.discard(victim)
            victim.give_up()
            self._given_up += 1
        self._tell()
        return lowest is not None

    def _tell(self) -> None:
        """One line about the bound, and then none for a while."""
        now_s = time.monotonic()
        if not self._given_up + self._refused or now_s - self._told_s < QUIET_LOG_S:
            return
        extra = {
            "max_connections": self.limits.max_connections,
            "given_up": self._given_up,
            "refused": self._refused,
        }
        log.warning("as many connections as there may be", extra=extra)
        self._told_s = now_s
        self._given_up = self._refused = 0


class UnsentBytes:
    """Watches what a transport still has to send, for a client that takes none of it.

    ``stalled`` is whether none of it had moved for a while when it was last asked.
    """

    def __init__(self, transport: asyncio.Transport, now_s: float) -> None:
        self._transport = transport
        self._size = 0
        self._moved_s = now_s
        self._moved = False
        self.stalled = False

    def moved(self) -> None:
        """Some of it has left, or could be added to: its size alone does not always tell."""
        self._moved = True

    def waiting_s(self, now_s: float) -> float:
        """For how long nothing has moved, as far as was asked; 0 where all was sent."""
        size = self._transport.get_write_buffer_size()
        if size == 0 or size != self._size or self._moved:
            self._size, self._moved_s, self._moved = size, now_s, False
        waited_s = now_s - self._moved_s
        self.stalled = waited_s > STALLED_S
        return waited_s


def connections_that_fit(wanted: int) -> int:
    """At most ``wanted``, and no more than the process may open files for (RLIMIT_NOFILE)."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows bounds the files of a process otherwise, and high
        return wanted
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (files - RESERVED_FILES) // FILES_A_CONNECTION))


def peer_of(name: object) -> str:
    """Whose connection it is: the IPv4 address, or the IPv6 network that one client is given.

    ``name`` is the address as ``socket.getpeername`` tells it.
    """
    if not isinstance(name, tuple):
        return ""
    host = str(name[0]).partition("%")[0]
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host)
    mapped = address.ipv4_mapped
    return str(mapped or ipaddress.IPv6Network((address, 64), strict=False))


def reset(transport: asyncio.Transport) -> None:
    """Drop a connection with a TCP reset: at once, and visibly also where its end is no sign."""
    raw = transport.get_extra_info("socket")
    with suppress(OSError, AttributeError):  # closed by now, or never there
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    transport.abort()
