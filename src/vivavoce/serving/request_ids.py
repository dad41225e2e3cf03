"""The outermost middleware: a request id, a line in the log, a place among what is in flight."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vivavoce.errors import Draining
from vivavoce.serving.drain import InFlight
from vivavoce.serving.logs import request_id
from vivavoce.serving.problems import problem_response

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
