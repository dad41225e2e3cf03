"""API keys: ``Authorization: Bearer KEY``, ``X-API-Key: KEY``, on WebSockets also ``?api_key=``."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from vivavoce.errors import Unauthorized
from vivavoce.serving.problems import problem_response

OPEN_PATHS = frozenset({"/", "/livez", "/readyz", "/health"})
"""Paths that may be read without a key: what load balancers and prewarming clients ask."""

_READING = frozenset({"GET", "HEAD"})

POLICY_VIOLATION = 1008


class Auth:
    """Refuses requests without one of the keys; without keys, everybody is let in."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = tuple(key.encode() for key in keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket") or self._may_enter(scope):
            await self._app(scope, receive, send)
            return
        error = Unauthorized("The API key is missing or wrong; send 'Authorization: Bearer KEY'.")
        if scope["type"] == "http":
            await problem_response(error)(scope, receive, send)
        else:
            await refuse_websocket(scope, receive, send, error)

    def _may_enter(self, scope: Scope) -> bool:
        if not self._keys or (scope["type"] == "http" and is_open(scope["path"], scope["method"])):
            return True
        # Every pair is compared, so that the time tells nothing about which one matched.
        matches = [
            hmac.compare_digest(offered, key) for offered in _offered(scope) for key in self._keys
        ]
        return any(matches)


def is_open(path: str, method: str) -> bool:
    """Whether a request needs no key."""
    return path in OPEN_PATHS and method.upper() in _READING


async def refuse_websocket(scope: Scope, receive: Receive, send: Send, error: Unauthorized) -> None:
    """Answer an upgrade with an HTTP error where the server can, else close it."""
    if "websocket.http.response" in scope.get("extensions", {}):
        await problem_response(error)(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": error.code})


def _offered(scope: Scope) -> Iterator[bytes]:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                yield token.strip()
        elif name == b"x-api-key":
            yield value.strip()
    if scope["type"] == "websocket":
        query = parse_qs(scope["query_string"].decode("latin-1"))
        yield from (key.encode() for key in query.get("api_key", ()))
