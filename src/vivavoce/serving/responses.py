"""HTTP that speaks: a response whose body is sound, how sound is laid into it, how it is described.

The engine's slot is held by the response, not by a generator that may never be started, and is
free within one engine step of a hang-up in any phase. Headers wait for the first sound, so that
what fails before it is an HTTP error; what fails later ends the body visibly.
"""

from __future__ import annotations

import base64
import json
import logging
from typing import Any
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vivavoce.audio.formats import ENCODINGS, find_encoding
from vivavoce.errors import SlowConsumer, VivavoceError
from vivavoce.serving.connections import ABORT
from vivavoce.serving.context import ServerContext
from vivavoce.serving.logs import StreamBroken
from vivavoce.serving.problems import documented, error_detail, problem_response
from vivavoce.serving.session import (
    Done,
    Event,
    Session,
    Sound,
    SpeechOrder,
    Started,
    until_disconnect,
)
from vivavoce.types import AudioFormat, Timings

log = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"

CHARACTERS_PER_TOKEN = 4
TOKENS_PER_SECOND = 20


class Framing:
    """The bytes as they are. A failure has no place in them: the connection is cut."""

    transport = "http"

    def media_type(self, target: AudioFormat) -> str:
        """The Content-Type."""
        return find_encoding(target.encoding).mime_type

    def headers(self, target: AudioFormat) -> dict[str, str]:
        """Headers besides those of every speech response."""
        return {}

    def opening(self, target: AudioFormat) -> bytes:
        """What goes before the first sound."""
        return b""

    def piece(self, data: bytes) -> bytes:
        """Encoded sound, laid out."""
        return data

    def closing(self, timings: Timings) -> bytes:
        """What goes after the last sound."""
        return b""

    def failure(self, error: VivavoceError) -> bytes | None:
        """How a failure is told after the response began; None: it cannot be."""
        return None


class PcmFraming(Framing):
    """Raw s16le, described in headers (``/v1/audio/speech/stream/pcm``)."""

    transport = "pcm"

    def media_type(self, target: AudioFormat) -> str:
        """Nothing that a player would try to open."""
        return "application/octet-stream"

    def headers(self, target: AudioFormat) -> dict[str, str]:
        """X-PCM-*."""
        return {
            "X-PCM-Sample-Rate": str(target.sample_rate_hz),
            "X-PCM-Bit-Depth": "16",
            "X-PCM-Channels": "1",
            "Content-Disposition": 'attachment; filename="speech.pcm"',
        }


class OpenAIEvents(Framing):
    """OpenAI's events: ``speech.audio.delta`` …, ``speech.audio.done`` with ``usage``.

    ``usage`` is an estimate: a token for 4 characters of input and for 50 ms of sound.
    """

    transport = "sse"

    def media_type(self, target: AudioFormat) -> str:
        """Server-sent events."""
        return EVENT_STREAM

    def piece(self, data: bytes) -> bytes:
        """One delta, base64 of bytes in the response format."""
        audio = base64.b64encode(data)
        return b'data: {"type":"speech.audio.delta","audio":"' + audio + b'"}\n\n'

    def closing(self, timings: Timings) -> bytes:
        """The done event."""
        spent = max(1, round(timings.characters / CHARACTERS_PER_TOKEN))
        made = max(1, round(timings.audio_s * TOKENS_PER_SECOND))
        usage = {"input_tokens": spent, "output_tokens": made, "total_tokens": spent + made}
        return _event({"type": "speech.audio.done", "usage": usage})

    def failure(self, error: VivavoceError) -> bytes | None:
        """An error event instead of done."""
        return _event({"type": "speech.audio.error", "error": error_detail(error)}, name="error")


class PcmEvents(Framing):
    """``event: metadata``, then bare base64 of s16le, ``[DONE]`` (``/v1/audio/speech/stream``)."""

    transport = "sse"

    def media_type(self, target: AudioFormat) -> str:
        """Server-sent events."""
        return EVENT_STREAM

    def opening(self, target: AudioFormat) -> bytes:
        """The format of what follows."""
        about = {
            "sample_rate": target.sample_rate_hz,
            "bit_depth": 16,
            "channels": 1,
            "encoding": "pcm_s16le",
        }
        return _event(about, name="metadata")

    def piece(self, data: bytes) -> bytes:
        """One event."""
        return b"data: " + base64.b64encode(data) + b"\n\n"

    def closing(self, timings: Timings) -> bytes:
        """The end."""
        return b"data: [DONE]\n\n"

    def failure(self, error: VivavoceError) -> bytes | None:
        """A named event whose data older clients know by its ``[ERROR]``."""
        message = " ".join(error_detail(error)["message"].split())
        return f"event: error\ndata: [ERROR] {message}\n\n".encode()


def _event(data: dict[str, Any], name: str = "") -> bytes:
    prefix = f"event: {name}\n" if name else ""
    return f"{prefix}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


class SpeechResponse(Response):
    """Streams one order. With ``whole`` all of it is made first and then sent, with its length."""

    def __init__(
        self, context: ServerContext, order: SpeechOrder, framing: Framing, *, whole: bool = False
    ) -> None:
        super().__init__()
        self._context = context
        self._order = order
        self._framing = framing
        self._whole = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it. Raises StreamBroken where a response that began cannot be finished."""
        await until_disconnect(receive, self._answer(scope, receive, send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(send, self._framing, self._context)
        session = Session(self._context.service, self._framing.transport, body.take)
        try:
            if self._whole:
                async with self._context.spool.file() as file:
                    await session.speak_whole(self._order, file)
            else:
                await session.speak(self._order)
        except VivavoceError as error:
            if not body.begun:
                await problem_response(error)(scope, receive, send)
                return
            log.warning("speech ended early", extra={"code": error.code, "why": error.message})
            last_words = None if isinstance(error, SlowConsumer) else self._framing.failure(error)
            if last_words is None:
                _cut(scope, error)
            else:
                await session.in_time(body.end(last_words))


def _cut(scope: Scope, error: VivavoceError) -> None:
    """End a body so that its reader sees that it is not whole. Raises StreamBroken."""
    # A reader that stopped would keep the connection open; HTTP/1.0 has no other sign.
    stuck = isinstance(error, SlowConsumer) or scope["http_version"] == "1.0"
    abort = scope.get("extensions", {}).get(ABORT)
    if abort is not None and stuck:
        abort()
    raise StreamBroken(error.code)


class _Body:
    """Lays what a session tells into one response.

    Of a body whose length is known the last bytes leave with its end, not before: the next request
    may come as soon as they are there.
    """

    def __init__(self, send: Send, framing: Framing, context: ServerContext) -> None:
        self.begun = False
        self._send = send
        self._framing = framing
        self._context = context
        self._opening = b""
        self._last: bytes | None = None  # of a body whose length is known

    async def take(self, event: Event) -> None:
        """Send what an event is in bytes."""
        if isinstance(event, Sound):
            opening, self._opening = self._opening, b""
            data = opening + self._framing.piece(event.data)
            if self._last is not None:
                data, self._last = self._last, data
            await self.send(data)
        elif isinstance(event, Started):
            self.begun = True
            self._opening = self._framing.opening(event.format)
            self._last = None if event.size_bytes is None else b""
            named = self._headers(event).items()
            raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in named]
            await self._send({"type": "http.response.start", "status": 200, "headers": raw})
        elif isinstance(event, Done):
            await self.end((self._last or b"") + self._framing.closing(event.timings))

    async def send(self, data: bytes) -> None:
        """Send some of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes) -> None:
        """Send the last of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    def _headers(self, started: Started) -> dict[str, str]:
        target, timings = started.format, started.timings
        first_ms = timings.first_audio_ms or 0.0
        headers = {
            "Content-Type": self._framing.media_type(target),
            "Cache-Control": "no-cache",
            "X-Accel-Buffering": "no",
            "X-Sample-Rate": str(target.sample_rate_hz),
            "X-Vivavoce-Engine": self._context.service.engine.info.name,
            "X-Vivavoce-Voice": quote(started.voice.id if started.voice else "recording"),
            "X-Cache": "hit" if timings.cached else "miss",
            "Server-Timing": f"queue;dur={timings.queue_ms:.1f}, first;dur={first_ms:.1f}",
        }
        if started.ignored:
            headers["X-Ignored-Fields"] = ", ".join(started.ignored)
        headers |= self._framing.headers(target)
        if started.size_bytes is not None:
            headers["Content-Length"] = str(started.size_bytes)
        return headers


_ERRORS = (400, 404, 413, 429, 500, 503, 504)
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_EVENTS = {
    "itemSchema": {
        "type": "object",
        "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
        "required": ["data"],
    }
}
_HEADERS = {
    "X-Sample-Rate": "Hz of the sound that was sent.",
    "X-Vivavoce-Engine": "The engine that spoke.",
    "X-Vivavoce-Voice": "The voice that spoke.",
    "X-Cache": "hit or miss.",
    "Server-Timing": "Milliseconds in the queue and until the first sound.",
}


def speech_responses(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that speaks in one of ``media_types``."""
    headers = {
        name: {"description": text, "schema": {"type": "string"}, "required": True}
        for name, text in _HEADERS.items()
    }
    headers["X-Ignored-Fields"] = {
        "description": "Fields of the request that had no effect.",
        "schema": {"type": "string"},
        "required": False,
    }
    content = {kind: _EVENTS if kind == EVENT_STREAM else _BINARY for kind in media_types}
    spoken = {"description": "Speech, as it is made.", "headers": headers, "content": content}
    return {200: spoken, **documented(*_ERRORS)}


def encoding_media_types() -> tuple[str, ...]:
    """The Content-Types of all encodings."""
    return tuple(dict.fromkeys(entry.mime_type for entry in ENCODINGS.values()))
