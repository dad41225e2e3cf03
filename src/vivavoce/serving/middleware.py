"""What stands around every request: its id, its place in flight, and limits on its body.

A log line and a request id come outermost; then how long it takes to say no, timed where the answer
is made, not where it is read; then body limits, enforced while a body arrives rather than after it
was read; and HEAD, which is GET without its body (RFC 9110, section 9.3.2).

Bodies have room together: how many of a kind, and of how many bytes, from the first byte until
their requests are answered, while they lie in memory or in temporary files. Without it, clients
that send slowly and never end could fill both. What callers usually send is short, and fits into
what is every body's own: such clients leave it room.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vivavoce.errors import BodyTooLarge, Draining, TooManyBodies, VivavoceError
from vivavoce.serving.connections import BODY_ENDED
from vivavoce.serving.logs import request_id
from vivavoce.serving.problems import problem_response
from vivavoce.speech.observer import SpeechObserver

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


log = logging.getLogger(__name__)

HEADER = b"x-request-id"
SCOPE_KEY = "vivavoce.request_id"
SANE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
ENDED = "The server ended before this was done."
QUIET_PATHS = frozenset({"/livez", "/readyz", "/health", "/metrics"})


class RequestIds:
    """Takes the caller's X-Request-ID where it is sane, else makes one; answers with it."""

    def __init__(self, app: ASGIApp, in_flight: InFlight) -> None:
        self._app = app
        self._in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        identity = _identity(scope)
        scope[SCOPE_KEY] = identity
        token = request_id.set(identity)
        try:
            if scope["type"] == "websocket":
                await self._app(scope, receive, send)
            else:
                await self._http(scope, receive, send, identity)
        finally:
            request_id.reset(token)

    async def _http(self, scope: Scope, receive: Receive, send: Send, identity: str) -> None:
        status, began_s = 0, time.monotonic()

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = identity
            await send(message)

        try:
            with self._in_flight.request(scope, receive) as counted:
                await self._app(scope, counted, named)
        except asyncio.CancelledError:
            # The drain is over. uvicorn would say 500 to whoever has heard nothing yet.
            if status == 0:
                await problem_response(Draining(ENDED))(scope, receive, named)
            raise
        finally:
            _note(scope, status, (time.monotonic() - began_s) * 1000)


def _identity(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == HEADER and SANE.fullmatch(value.decode("latin-1")):
            return str(value.decode("latin-1"))
    return f"req_{uuid.uuid4().hex}"


def _note(scope: Scope, status: int, duration_ms: float) -> None:
    """``status`` 0 means that the client left before an answer."""
    level = logging.DEBUG if scope["path"] in QUIET_PATHS else logging.INFO
    extra = {
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "duration_ms": round(duration_ms, 1),
    }
    log.log(level, "request", extra=extra)


TOO_MANY = 429


class RejectTimes:
    """Tells the observer of each request that was turned away (429), and how long that took.

    From the end of a request's body to the end of its answer. Our server stamps the end of the body
    as it comes off the wire; elsewhere it is when the application has read it.
    """

    def __init__(self, app: ASGIApp, observer: SpeechObserver) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        read_s, rejected = time.monotonic(), False

        async def reading() -> Message:
            nonlocal read_s
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                read_s = time.monotonic()
            return message

        async def answering(message: Message) -> None:
            nonlocal rejected
            if message["type"] == "http.response.start":
                rejected = message["status"] == TOO_MANY
            await send(message)
            if rejected and not message.get("more_body", False) and "body" in message:
                ended_s = (scope.get("extensions") or {}).get(BODY_ENDED, read_s)
                self._observer.rejected(time.monotonic() - ended_s)

        await self._app(scope, reading, answering)


UPLOADS_AT_ONCE = 64
"""Forms that are received, wait for a slot, or are spoken."""

UPLOAD_BYTES = 128 * 1024 * 1024
PLAIN_BYTES = 64 * 1024 * 1024
"""Of all bodies that are no forms."""

OWN_BYTES = 16 * 1024
"""Of each body that is no form, not counted with those of the others."""

RETRY_MS = 2_000


class BodySpace:
    """Room for bodies of one kind; ``most`` None is no bound on their number.

    ``own_bytes`` of each are not counted.
    """

    def __init__(self, most_bytes: int, most: int | None = None, own_bytes: int = 0) -> None:
        self.most_bytes = most_bytes
        self.most = most
        self.own_bytes = own_bytes
        self.count = 0
        self.used_bytes = 0

    def enter(self) -> Body:
        """Count one in; leave it at the end. Raises TooManyBodies."""
        if self.most is not None and self.count >= self.most:
            raise _too_many(f"{self.count} uploads are under way, as many as may be.")
        self.count += 1
        return Body(self)


class Body:
    """One body, as far as it has come."""

    __slots__ = ("_size", "_space")

    def __init__(self, space: BodySpace) -> None:
        self._space = space
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self._size

    def take(self, size: int) -> None:
        """Count some more of it. Raises TooManyBodies where all together become too much."""
        before = self._shared_bytes
        self._size += size
        more = self._shared_bytes - before
        if more and self._space.used_bytes + more > self._space.most_bytes:
            self._size -= size
            raise _too_many("The bodies of other requests leave no room for this one.")
        self._space.used_bytes += more

    def leave(self) -> None:
        """Its request is over."""
        self._space.used_bytes -= self._shared_bytes
        self._space.count -= 1

    @property
    def _shared_bytes(self) -> int:
        return max(0, self._size - self._space.own_bytes)


def _too_many(message: str) -> TooManyBodies:
    return TooManyBodies(message, retry_after_ms=RETRY_MS)


class BodyLimits:
    """At most ``max_upload_bytes`` of multipart, ``max_body_bytes`` of anything else.

    Of all requests together no more than there is room for, or one of the largest.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, max_upload_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_upload_bytes = max_upload_bytes
        self.plain = BodySpace(max(PLAIN_BYTES, max_body_bytes), own_bytes=OWN_BYTES)
        self.uploads = BodySpace(max(UPLOAD_BYTES, max_upload_bytes), UPLOADS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        multipart = headers.get("content-type", "").lower().startswith("multipart/")
        limit = self._max_upload_bytes if multipart else self._max_body_bytes
        try:
            _check_stated(headers, limit)
            body = (self.uploads if multipart else self.plain).enter()
        except VivavoceError as error:
            # The body is not wanted, so the connection is of no further use.
            await problem_response(error, {"Connection": "close"})(scope, receive, send)
            return
        try:
            await self._app(scope, _counted(receive, limit, body), send)
        finally:
            body.leave()


def _check_stated(headers: Headers, limit: int) -> None:
    stated = headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limit:
        raise _too_large(limit)


def _counted(receive: Receive, limit: int, body: Body) -> Receive:
    """``receive``, raising BodyTooLarge or TooManyBodies once more than there may be has come."""

    async def counted() -> Message:
        message = await receive()
        size = len(message.get("body", b""))
        if body.size + size > limit:
            raise _too_large(limit)
        body.take(size)
        return message

    return counted


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {limit} bytes.")


class HeadRequests:
    """Serves HEAD wherever there is GET: load balancers ask so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_no_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_no_body)
