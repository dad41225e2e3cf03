"""HTTP/1 connections: uvicorn's protocol on httptools, with bounds on what a client may send.

uvicorn's httptools protocol takes a head of any size over any time, queues pipelined requests
without listening for their hang-up, and waits for ever until a client has read the end of an
answer. Here a head has 32 KiB, 100 fields, 8 KiB of URL and ``head_timeout_s``; a body has a least
rate; a pipelined request is refused; and what nobody reads is dropped. All of it is counted while
bytes arrive, before the parser keeps anything of them.
"""

from __future__ import annotations

import enum
import logging
import math
import time
from functools import partial
from typing import Any

import httptools
from starlette.types import Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from vivavoce.errors import (
    HeadTooLarge,
    InputError,
    Pipelined,
    SlowRequest,
    TooManyConnections,
    UrlTooLong,
    VivavoceError,
)
from vivavoce.serving.connections import (
    ABORT,
    BODY_ENDED,
    Connection,
    Connections,
    Rank,
    UnsentBytes,
    peer_of,
    reset,
)
from vivavoce.serving.problems import problem_bytes

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 32 * 1024
MAX_HEAD_FIELDS = 100
MAX_URL_BYTES = 8 * 1024
MAX_FRAMING_BYTES = 16 * 1024
"""What the framing of chunks may take beyond as much as the body itself."""

PARSE_BYTES = 8 * 1024
"""What the parser is given at once, so that a limit is met soon after it is passed."""

MAX_PIPELINED_BYTES = 64 * 1024
MAX_LATE_BYTES = 16 * 1024 * 1024
"""What is read and thrown away after a request was refused or answered, to be read in turn."""

LINGER_S = 2.0
"""How long a refusal waits to be read before its connection goes."""


class Stage(enum.Enum):
    """What a connection is at."""

    IDLE = "between two requests"
    HEAD = "receiving a head"
    BODY = "receiving a body"
    ANSWER = "answering a whole request"
    REFUSED = "reading no more"


class HttpConnection(HttpToolsProtocol):
    """One connection. ``quiet_since_s`` is when its stage began, in the event loop's time.

    It takes the place of ``predecessor``, where that is what it was until now.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        connections: Connections,
        predecessor: Connection | None = None,
        **others: Any,
    ) -> None:
        super().__init__(config, server_state, app_state, **others)
        self.peer = ""
        self.stage = Stage.IDLE
        self.quiet_since_s = self.loop.time()
        self._connections = connections
        self._predecessor = predecessor
        self._head_bytes = self._fields = 0
        self._body_bytes = self._raw_body_bytes = self._late_bytes = 0
        self._pipelined = False
        self._refusal: VivavoceError | None = None
        self._watched_s = self.quiet_since_s

    # What the transport tells.

    def connection_made(self, transport: Any) -> None:
        """Take a place, or answer 503 where there is none."""
        super().connection_made(transport)
        self.peer = peer_of(transport.get_extra_info("peername"))
        self._unsent = UnsentBytes(transport, self.loop.time())
        if self._predecessor is not None:
            self._connections.leave(self._predecessor)
        if not self._connections.enter(self):
            self._begin(Stage.REFUSED)
            busy = TooManyConnections("The server has too many connections.", retry_after_ms=1_000)
            transport.write(problem_bytes(busy))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._connections.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, as far as the limits let it."""
        if self.stage is Stage.REFUSED or self._pipelined:
            self._throw_away(len(data))
            return
        self._unset_keepalive_if_required()
        if self.stage is Stage.IDLE:
            self._begin(Stage.HEAD)
            self._head_bytes = self._fields = 0
        try:
            self._parse(memoryview(data))
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserError:
            if not self._pipelined:
                self.refuse(self._refusal or InputError("This is not an HTTP request."))

    def resume_writing(self) -> None:
        """Some of what was written has left."""
        self._unsent.moved()
        super().resume_writing()

    def _parse(self, data: memoryview) -> None:
        while data:
            before, size = self.stage, min(len(data), PARSE_BYTES)
            if before is Stage.HEAD:
                size = min(size, MAX_HEAD_BYTES - self._head_bytes)
                if size == 0:
                    self._refuse_parsing(_too_large())
            self.parser.feed_data(data[:size])
            self._count(before, size)
            data = data[size:]

    def _count(self, before: Stage, size: int) -> None:
        if before is Stage.HEAD:
            self._head_bytes += size
        elif before is Stage.ANSWER:
            self._throw_away(size)  # line ends that follow a request; anything else is pipelined
        elif before is Stage.BODY:
            self._raw_body_bytes += size
            framing = self._raw_body_bytes - self._body_bytes
            if framing > MAX_FRAMING_BYTES + self._body_bytes:
                self._refuse_parsing(InputError("The body's chunks are too small."))

    # What the parser tells.

    def on_message_begin(self) -> None:
        """Begin a request, unless the one before it is still being answered."""
        if self.cycle is not None and not _is_written(self.cycle):
            self._pipelined = True
            raise httptools.HttpParserError("pipelined")
        if self.stage is not Stage.HEAD:
            self._begin(Stage.HEAD)
            self._head_bytes = self._fields = 0
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: partial(reset, self.transport)}  # type: ignore[dict-item]

    def on_url(self, url: bytes) -> None:
        """Count the URL."""
        if len(self.url) + len(url) > MAX_URL_BYTES:
            self._refuse_parsing(UrlTooLong(f"The URL is longer than {MAX_URL_BYTES} bytes."))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a field. Those of a trailer are not kept (RFC 9110, section 6.5.1)."""
        self._fields += 1
        if self._fields > MAX_HEAD_FIELDS:
            self._refuse_parsing(_too_large())
        if self.stage is Stage.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the application."""
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._refuse_parsing(InputError(f"HTTP/{version} is not spoken here."))
        self.app = self._answer_until_close if version == "1.0" else self.config.loaded_app
        self._begin(Stage.BODY)
        self._body_bytes = self._raw_body_bytes = self._late_bytes = self._fields = 0
        super().on_headers_complete()
        if self.cycle is not None:
            self.cycle.transport = _Closing(self)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """Count some of the body."""
        self._body_bytes += len(body)
        if self.cycle is not None and self.cycle.response_complete:
            self._throw_away(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole; how long it takes to be refused counts from now."""
        self.scope["extensions"][BODY_ENDED] = time.monotonic()  # type: ignore[assignment]
        answered = self.cycle is None or self.cycle.response_complete
        self._begin(Stage.IDLE if answered else Stage.ANSWER)
        super().on_message_complete()

    # What the application tells.

    def on_response_complete(self) -> None:
        """The answer is written, if not sent."""
        if self.stage is Stage.ANSWER and not self.pipeline:
            self._begin(Stage.IDLE)
        if self._pipelined and not self.transport.is_closing():
            self.refuse(Pipelined("Send the next request when the last one was answered."))
        super().on_response_complete()

    async def _answer_until_close(self, scope: Scope, receive: Receive, send: Send) -> None:
        """HTTP/1.0 has no chunks: a body without a length ends with the connection (RFC 9112)."""
        cycle, delimited = self.cycle, False

        async def send_plain(message: Message) -> None:
            nonlocal delimited
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message.get("headers", ())}
                delimited = b"content-length" not in names
                cycle.chunked_encoding = False if delimited else None
            elif delimited:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await self.config.loaded_app(scope, receive, send_plain)

    # What is asked of a connection.

    @property
    def rank(self) -> Rank | None:
        """How readily it may be given up; None while it is in use."""
        if self._unsent.stalled:
            return Rank.STALLED
        if self.stage is Stage.BODY:
            return Rank.RECEIVING_BODY
        in_use = self.stage is Stage.ANSWER or self.unsent_bytes
        return None if in_use else Rank.AWAITING_REQUEST

    @property
    def unsent_bytes(self) -> int:
        """What was written and has not left yet."""
        return self.transport.get_write_buffer_size()

    def give_up(self) -> None:
        """Close it at once."""
        self._begin(Stage.REFUSED)
        if self.unsent_bytes:
            reset(self.transport)
        else:
            self.transport.close()

    def watch(self, now_s: float) -> None:
        """End what has been waiting for too long."""
        waited_s, limits = now_s - self.quiet_since_s, self._connections.limits
        if self.stage is Stage.BODY:
            self._watch_body(now_s, waited_s)
        elif self.stage is Stage.HEAD and waited_s > limits.head_timeout_s:
            self.refuse(SlowRequest(f"No whole head came within {limits.head_timeout_s:g} s."))
        elif waited_s > self._patience_s():
            self.transport.close()
        self._watched_s = now_s
        if self.stage is Stage.ANSWER and not self.flow.write_paused:
            self._unsent.moved()  # more of the answer can still be written
        # While an answer is made, whoever makes it watches first; this is for those who do not.
        patience_s = limits.stall_timeout_s * (2 if self.stage is Stage.ANSWER else 1)
        if self._unsent.waiting_s(now_s) > patience_s:
            log.warning("nothing was read", extra={"for_s": patience_s, "peer": self.peer})
            reset(self.transport)

    def _patience_s(self) -> float:
        """How long a connection may stay that has nothing more to do."""
        first = self.cycle is None
        idle_s = self._connections.limits.head_timeout_s if first else self.timeout_keep_alive
        return {Stage.IDLE: idle_s, Stage.REFUSED: LINGER_S}.get(self.stage, math.inf)

    def _watch_body(self, now_s: float, waited_s: float) -> None:
        limits, cycle = self._connections.limits, self.cycle
        if self.flow.read_paused or (cycle is not None and cycle.waiting_for_100_continue):
            self.quiet_since_s += now_s - self._watched_s  # it is the server that waits
        elif waited_s > limits.head_timeout_s and (
            self._body_bytes < limits.min_body_rate_bytes_s * waited_s
        ):
            rate = limits.min_body_rate_bytes_s
            self.refuse(SlowRequest(f"The body came more slowly than {rate:g} bytes a second."))
        elif waited_s > limits.body_timeout_s:
            self.refuse(SlowRequest(f"No whole body came within {limits.body_timeout_s:g} s."))

    # The end.

    def refuse(self, error: VivavoceError) -> None:
        """Read no more, answer with an error where that is still possible, and close."""
        if self.stage is Stage.REFUSED:
            return
        log.info("request refused", extra={"code": error.code, "peer": self.peer})
        cycle = self.cycle
        self._begin(Stage.REFUSED)
        self._late_bytes = 0
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected, cycle.waiting_for_100_continue = True, False
            cycle.message_event.set()
            if cycle.response_started:
                reset(self.transport)
                return
        self.transport.write(problem_bytes(error))
        self._half_close()

    def close(self) -> None:
        """Close after an answer. Where its request still comes, wait until the answer was read."""
        if self.stage is Stage.BODY:
            self._begin(Stage.REFUSED)
            self._half_close()
        else:
            self.transport.close()

    def _half_close(self) -> None:
        """Closing while a client sends is a reset, and the answer may be lost with it."""
        try:
            if self.transport.can_write_eof() and not self.transport.is_closing():
                self.transport.write_eof()
            else:
                self.transport.close()
        except (OSError, RuntimeError):  # the other side has gone, and nobody was told yet
            self.transport.abort()

    def _refuse_parsing(self, error: VivavoceError) -> None:
        """Stop the parser, which tells ``data_received`` that it was stopped."""
        self._refusal = error
        raise httptools.HttpParserError(error.code)

    def _throw_away(self, size: int) -> None:
        self._late_bytes += size
        early = self.stage in (Stage.BODY, Stage.REFUSED)
        if self._late_bytes > (MAX_LATE_BYTES if early else MAX_PIPELINED_BYTES):
            reset(self.transport)

    def _upgrade(self) -> None:
        if self._should_upgrade():
            self._connections.leave(self)
            self.handle_websocket_upgrade()
            return
        # A server may leave another protocol alone (RFC 9110, section 7.8), but the parser has
        # stopped here: this is the connection's last request.
        self._pipelined = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _begin(self, stage: Stage) -> None:
        self.stage, self.quiet_since_s = stage, self.loop.time()


class _Closing:
    """The transport as the cycle of a request uses it; closing it is the connection's matter."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, connection: HttpConnection) -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self.close = connection.close


def _is_written(cycle: RequestResponseCycle) -> bool:
    """Whether its client has, or will have, all of an answer, and may send the next request.

    The application may still be about to say so: uvicorn lets the next request wait until then.
    """
    counted = cycle.chunked_encoding is False and cycle.expected_content_length == 0
    headless = cycle.scope["method"] == "HEAD"
    return cycle.response_complete or (cycle.response_started and (counted or headless))


def _too_large() -> HeadTooLarge:
    return HeadTooLarge(
        f"The head is larger than {MAX_HEAD_BYTES} bytes or {MAX_HEAD_FIELDS} fields."
    )
