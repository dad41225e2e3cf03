"""Two layers around the application: what comes in is made ours, what goes out is made old."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vivavoce.errors import InputError
from vivavoce.serving.body import parse_object, read_object
from vivavoce.serving.compat import neutts_air, qwen3_tts
from vivavoce.serving.compat.old_server import Fields, OldServer, Voices
from vivavoce.speech.voices import VoiceLibrary

SERVERS: Mapping[str, OldServer] = MappingProxyType({
    "qwen3-tts-server": qwen3_tts.SERVER,
    "neutts-server": neutts_air.SERVER,
})  # fmt: skip

Change = Callable[[Fields], Fields]


class OldRequests:
    """The inner one: JSON bodies and WebSocket messages of old clients in our words.

    It stands inside of what limits bodies and lets callers in; ``voices`` is asked when a request
    is there, because engines know their names late.
    """

    def __init__(
        self,
        app: ASGIApp,
        old: OldServer,
        voices: Callable[[], VoiceLibrary],
        default_voice: str = "",
    ) -> None:
        self._app = app
        self._old = old
        self._voices = voices
        self._default_voice = default_voice

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        path = scope.get("path", "")
        if path in self._old.fields and scope["type"] == "websocket":
            receive = _rewritten_messages(receive, self._change(path))
            send = _without_events(send, self._old.silent_events)
        elif path in self._old.fields and scope["method"] == "POST":
            receive = _rewritten(receive, self._change(path))
        await self._app(scope, receive, send)

    def _change(self, path: str) -> Change:
        def change(fields: Fields) -> Fields:
            voices = Voices(self._voices().names(), self._default_voice or None)
            return self._old.fields[path](fields, voices)

        return change


class OldAnswers:
    """The outer one: errors in an old server's words, its headers, and where its paths lead.

    Paths are changed before anybody is let in, who may have a key for some of ours only.
    """

    def __init__(self, app: ASGIApp, old: OldServer) -> None:
        self._app = app
        self._old = old

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = {**scope, "path": self._old.path(scope["method"], scope["path"])}
        held: Message | None = None
        parts: list[bytes] = []

        async def answer(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start":
                if self._tells_an_error(message):
                    held = message
                    return
                self._add_headers(scope, message)
            elif held is not None and message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                if not message.get("more_body", False):
                    await self._reworded(scope, held, b"".join(parts))(scope, receive, send)
                return
            await send(message)

        await self._app(scope, receive, answer)

    def _tells_an_error(self, start: Message) -> bool:
        kind = Headers(raw=start.get("headers", [])).get("content-type", "")
        is_json = kind.startswith("application/json")
        return self._old.error is not None and start["status"] >= 400 and is_json

    def _reworded(self, scope: Scope, start: Message, body: bytes) -> Response:
        headers = {
            name: value
            for name, value in Headers(raw=start["headers"]).items()
            if name not in ("content-length", "content-type")
        }
        status, detail = start["status"], json.loads(body).get("error") if body else None
        if self._old.error is None or not isinstance(detail, dict):  # /livez and its like
            return Response(body, status, headers, "application/json")
        error = self._old.error(status, scope["path"], detail)
        told = json.dumps(dict(error.body), ensure_ascii=False).encode()
        headers |= {name.lower(): value for name, value in error.headers.items()}
        return Response(told, error.status, headers, "application/json")

    def _add_headers(self, scope: Scope, start: Message) -> None:
        if start["status"] == 200:
            headers = MutableHeaders(raw=start["headers"])
            kind = headers.get("content-type", "")
            headers.update(dict(self._old.headers(scope["path"], kind)))


def _rewritten(receive: Receive, change: Change) -> Receive:
    """``receive`` with the JSON body changed; one that is none is left for the route to refuse."""
    whole = False

    async def rewritten() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        parts: list[bytes] = []
        while not whole:
            message = await receive()
            if message["type"] != "http.request":
                return message
            parts.append(message.get("body", b""))
            whole = not message.get("more_body", False)
        body = b"".join(parts)
        with suppress(InputError):
            body = _dumped(change(await read_object(body)))
        return {"type": "http.request", "body": body, "more_body": False}

    return rewritten


def _rewritten_messages(receive: Receive, change: Change) -> Receive:
    async def rewritten() -> Message:
        message = await receive()
        if message["type"] != "websocket.receive" or message.get("text") is None:
            return message
        try:
            fields = parse_object(message["text"])
        except InputError:
            return message
        if fields.get("type", "speak") != "speak":
            return message
        return {"type": "websocket.receive", "text": _dumped(change(fields)).decode()}

    return rewritten


def _without_events(send: Send, silent: frozenset[str]) -> Send:
    async def chosen(message: Message) -> None:
        text = message.get("text") if message["type"] == "websocket.send" else None
        if text is None or json.loads(text).get("event") not in silent:
            await send(message)

    return chosen


def _dumped(fields: Fields) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()
