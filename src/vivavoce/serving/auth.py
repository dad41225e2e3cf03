"""The door: one middleware that knows for whom, from which page and under which name is asked.

Keys and client tokens come as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``, on WebSockets
also as ``?api_key=KEY``.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vivavoce.errors import ForeignOrigin, Unauthorized, VivavoceError
from vivavoce.serving import docs_page
from vivavoce.serving.access import check_access, check_path, is_open
from vivavoce.serving.callers import Caller, caller
from vivavoce.serving.client_tokens import PREFIX, verify
from vivavoce.serving.keys import KeyRing
from vivavoce.serving.origins import SAFE_METHODS, Ask, HostRule, OriginRule
from vivavoce.serving.problems import problem_response

POLICY_VIOLATION = 1008
MAX_OFFERED = 4
"""Keys that one request may offer; each is compared with every key there is."""


class Doors:
    """Lets a request in or says why not: host, preflight, path, key, origin, access, in order."""

    def __init__(self, app: ASGIApp, ring: KeyRing, hosts: HostRule, origins: OriginRule) -> None:
        self._app = app
        self._ring = ring
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            who = self._admit(scope)
        except VivavoceError as error:
            await refuse(scope, receive, send, error)
            return
        entered = caller.set(who)
        try:
            await self._app(scope, receive, send)
        finally:
            caller.reset(entered)

    def _admit(self, scope: Scope) -> Caller | None:
        """Who calls; None where no key is needed. Raises VivavoceError."""
        headers = Headers(scope=scope)
        method = scope.get("method", "GET")
        local = scope.get("server")
        self._hosts.check(
            headers.getlist("host"), None if local is None else local[0], keyed=self._ring.locked
        )
        _refuse_preflight(headers, method)
        check_path(scope["path"])
        who = self._identify(scope, is_open(scope["path"], method) and scope["type"] == "http")
        token_origin = who.token.origin if who is not None and who.token is not None else None
        self._origins.check(_ask(scope, headers, method), token_origin)
        if who is not None:
            check_access(who, scope["path"], method)
        return who

    def _identify(self, scope: Scope, needless: bool) -> Caller | None:
        """Raises Unauthorized, unless a key is ``needless`` here."""
        if not self._ring.locked:
            return None
        try:
            return self._caller(list(_offered(scope)))
        except Unauthorized:
            if needless or docs_page.is_asked_for(scope):
                return None
            raise

    def _caller(self, offered: list[bytes]) -> Caller:
        if 0 < len(offered) <= MAX_OFFERED:
            key = self._ring.find(offered)
            if key is not None:
                return Caller(self._ring, key.digest, key.name)
            for each in offered:
                if each.startswith(PREFIX):
                    key, token = verify(self._ring, each)
                    return Caller(self._ring, key.digest, key.name, token, self._ring.token_secret)
        raise Unauthorized("The API key is missing or wrong; send 'Authorization: Bearer KEY'.")


async def refuse(scope: Scope, receive: Receive, send: Send, error: VivavoceError) -> None:
    """Answer with an error; a WebSocket's upgrade where the server cannot, is closed."""
    if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
        await problem_response(error)(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": error.code})


def _refuse_preflight(headers: Headers, method: str) -> None:
    """Where ``cors_origins`` is set, preflights are answered before they come here."""
    if method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers:
        raise ForeignOrigin(
            "No page of another origin may call this server; its setting cors_origins"
            " (VIVAVOCE_CORS_ORIGINS) names those that may."
        )


def _ask(scope: Scope, headers: Headers, method: str) -> Ask:
    return Ask(
        origin=headers.get("origin"),
        site=headers.get("sec-fetch-site"),
        host=headers.get("host", ""),
        secure=scope.get("scheme") in ("https", "wss"),
        safe=scope["type"] == "http" and method.upper() in SAFE_METHODS,
    )


def _offered(scope: Scope) -> Iterator[bytes]:
    """What may be a key; never an empty one."""
    for each in _sent(scope):
        if stripped := each.strip():
            yield stripped


def _sent(scope: Scope) -> Iterator[bytes]:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                yield token
        elif name == b"x-api-key":
            yield value
    if scope["type"] == "websocket":
        query = parse_qs(scope["query_string"].decode("latin-1"))
        yield from (key.encode() for key in query.get("api_key", ()))
