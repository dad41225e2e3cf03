"""WebSocket connections: uvicorn's protocol, with bounds on what a client may send.

uvicorn answers every ping at once, whether or not the answers are read, parses all that came in one
go, and logs a traceback for a text that is not UTF-8. Here tiny frames are parsed a few at a time,
so that other callers get their turn; while nothing can be written only the last ping is answered
(RFC 6455, section 5.5.3); a flood of control frames or of fragments, and a broken frame, end the
connection with a line in the log. Reading goes on while writing waits, so that a caller who hears
slowly can still cancel.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode

from vivavoce.errors import InputError
from vivavoce.serving.connections import (
    ABORT,
    BUSY,
    Connections,
    Rank,
    UnsentBytes,
    peer_of,
    reset,
)
from vivavoce.serving.problems import problem_bytes

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
    from websockets.frames import Frame
    from websockets.http11 import Request

log = logging.getLogger(__name__)

_UNREADABLE = InputError("This is no WebSocket handshake; one is a GET without a body.")

PARSE_BYTES = 1_024
"""What the parser is given at once: at most 170 frames."""

FRAMES_A_TURN = 64
MAX_FRAGMENTS = 4_096
MAX_CONTROLS = 1_000
CONTROL_WINDOW_S = 10.0
"""More pings and pongs than this in that time are a flood."""


class WebSocketConnection(WebSocketsSansIOProtocol):
    """One connection. ``quiet_since_s`` is when it was last used, in the event loop's time."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        connections: Connections,
        **others: Any,
    ) -> None:
        super().__init__(config, server_state, app_state, **others)
        self.peer = ""
        self.quiet_since_s = self.loop.time()
        self._connections = connections
        self._input = bytearray()
        self._next_turn: asyncio.Handle | None = None
        self._small_frames = self._fragments = 0
        self._controls, self._controls_since_s = 0, self.quiet_since_s
        self._owed_pong = b""
        self._sends = 0
        self._busy = False

    # What the transport tells.

    def connection_made(self, transport: Any) -> None:
        """Take the place of the HTTP connection that this was."""
        super().connection_made(transport)
        self.peer = peer_of(transport.get_extra_info("peername"))
        self._unsent = UnsentBytes(transport, self.loop.time())
        self._connections.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._connections.leave(self)
        self._input.clear()
        if self._next_turn is not None:
            self._next_turn.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and parse as much of it as this turn may."""
        self._input += data
        if self._next_turn is None:
            self._parse()

    def resume_writing(self) -> None:
        """Some of what was written has left: answer the last ping that came meanwhile."""
        self._unsent.moved()
        super().resume_writing()
        if self._owed_pong and not self.close_sent:
            self.transport.write(self._owed_pong)
        self._owed_pong = b""

    def _parse(self) -> None:
        """Parse until a message waits for the application, or other callers should have a turn."""
        self._next_turn = None
        self._small_frames = 0
        while self._input and not self.transport.is_closing():
            if not self.queue.empty() and not self.close_sent:
                break
            if self._small_frames > FRAMES_A_TURN:
                self._next_turn = self.loop.call_soon(self._parse)
                break
            piece = bytes(self._input[:PARSE_BYTES])
            del self._input[:PARSE_BYTES]
            super().data_received(piece)
            self._refuse_bad_handshake()
        self._steer_reading()

    def _steer_reading(self) -> None:
        """Read only when nothing waits to be parsed, or to be heard by the application."""
        if self.transport.is_closing():
            return
        waiting = bool(self._input) or not (self.queue.empty() or self.close_sent)
        if waiting and not self.read_paused:
            self.transport.pause_reading()
        elif self.read_paused and not waiting:
            self.transport.resume_reading()
        self.read_paused = waiting

    def _refuse_bad_handshake(self) -> None:
        """Send the answer to a head that the parser refused, which uvicorn leaves unsent.

        To one with a body, and to whatever else it cannot read, the parser itself has none.
        """
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.close_sent = True
            answer = b"".join(self.conn.data_to_send()) or problem_bytes(_UNREADABLE)
            self.transport.write(answer)
            self.transport.close()

    # What the parser tells.

    def handle_connect(self, event: Request) -> None:
        """Offer ``ABORT`` and ``BUSY``; the application has not begun yet."""
        super().handle_connect(event)
        if not self.close_sent:
            extensions: dict[str, object] = dict(self.scope.get("extensions") or {})
            extensions[ABORT] = partial(reset, self.transport)
            extensions[BUSY] = self._set_busy
            self.scope["extensions"] = extensions  # type: ignore[typeddict-item]

    def handle_cont(self, event: Frame) -> None:
        """Go on with a message, which may not come in any number of pieces."""
        self._small_frames += 1
        self._fragments = 0 if event.fin else self._fragments + 1
        if self._fragments > MAX_FRAGMENTS:
            self._break(CloseCode.POLICY_VIOLATION, "too many fragments")
        elif not self.close_sent:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer it now if that can leave; else only the last one, when it can."""
        pongs = self.conn.data_to_send()
        if self._flooded() or self.close_sent or not pongs:
            return
        if self.writable.is_set() or self.conn.close_rcvd is not None:
            self.transport.write(b"".join(pongs))
        else:
            self._owed_pong = pongs[-1]

    def handle_pong(self, event: Frame) -> None:
        """Note that the client is there."""
        if not self._flooded():
            super().handle_pong(event)

    def send_receive_event_to_app(self) -> None:
        """Hand a message on, if it is one."""
        self._fragments = 0
        self.quiet_since_s = self.loop.time()
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self._break(CloseCode.INVALID_DATA, "a text that is not UTF-8")
                return
        super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Close after a broken frame, with one line in the log."""
        close = self.conn.close_sent
        if close is not None:
            extra = {"close_code": int(close.code), "why": close.reason, "peer": self.peer}
            log.warning("websocket broken off", extra=extra)
        super().handle_parser_exception()

    def keepalive_timeout(self) -> None:
        """Close a connection whose client answers no ping, without waiting for it to read."""
        super().keepalive_timeout()
        if self.unsent_bytes:
            reset(self.transport)

    def _flooded(self) -> bool:
        self._small_frames += 1
        now_s = self.loop.time()
        if now_s - self._controls_since_s > CONTROL_WINDOW_S:
            self._controls, self._controls_since_s = 0, now_s
        self._controls += 1
        if self._controls > MAX_CONTROLS:
            self._break(CloseCode.POLICY_VIOLATION, "too many pings")
        return self._controls > MAX_CONTROLS

    def _break(self, code: CloseCode, why: str) -> None:
        if not self.close_sent:
            self.conn.fail(code, why)
            self.handle_parser_exception()

    # What the application tells and asks.

    async def receive(self) -> ASGIReceiveEvent:
        """The next message."""
        message = await self.queue.get()
        if self.queue.empty():
            self._go_on()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Write a message, when that is possible."""
        self._sends += 1
        try:
            await super().send(message)
        finally:
            self._sends -= 1
            self._unsent.moved()
        if self.close_sent:
            self.handshake_complete = True  # uvicorn logs an error for one that was refused
            self._go_on()  # what is left may hold the client's own close frame

    def _go_on(self) -> None:
        """Parse what was held back, in a turn of its own, and then read again."""
        if self._input and self._next_turn is None:
            self._next_turn = self.loop.call_soon(self._parse)
        elif not self._input:
            self._steer_reading()

    def _set_busy(self, busy: bool) -> None:
        self._busy, self.quiet_since_s = busy, self.loop.time()

    # What is asked of a connection.

    @property
    def rank(self) -> Rank | None:
        """How readily it may be given up; None while it is in use."""
        if self._unsent.stalled:
            return Rank.STALLED
        return None if self._busy or self.unsent_bytes else Rank.IDLE_SOCKET

    @property
    def unsent_bytes(self) -> int:
        """What was written and has not left yet."""
        return self.transport.get_write_buffer_size()

    def give_up(self) -> None:
        """Close it at once: the client may come again."""
        if self.handshake_complete and not self.unsent_bytes:
            self._break(CloseCode.TRY_AGAIN_LATER, "too many connections")
        else:
            reset(self.transport)

    def watch(self, now_s: float) -> None:
        """End it where nothing of what was written last is read."""
        stall_timeout_s = self._connections.limits.stall_timeout_s
        waited_s = self._unsent.waiting_s(now_s)
        if waited_s > stall_timeout_s and not self._sends:  # who is sending watches for itself
            log.warning("nothing was read", extra={"for_s": stall_timeout_s, "peer": self.peer})
            reset(self.transport)
