"""A response that speaks: everything from waiting for a slot to the last byte, in one place.

The engine's slot is held by the response, not by a generator that may never be started, and is
free within one engine step of a hang-up in any phase. Headers wait for the first sound, so that
what fails before it is an HTTP error; what fails later ends the body visibly.
"""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from vivavoce.audio.containers import wav_header
from vivavoce.errors import SlowConsumer, VivavoceError
from vivavoce.serving.callers import opened
from vivavoce.serving.connections import ABORT
from vivavoce.serving.context import ServerContext
from vivavoce.serving.disconnect import until_disconnect
from vivavoce.serving.framing import Framing
from vivavoce.serving.logs import StreamBroken
from vivavoce.serving.problems import problem_response
from vivavoce.serving.speech_body import MAX_UNKNOWN_CHARS, MAX_UNKNOWN_NAMES
from vivavoce.serving.spool import SpooledFile
from vivavoce.speech.delivery import delivered_format, encoded
from vivavoce.speech.stream import SpeechStream
from vivavoce.types import AudioFormat, SpeechRequest

log = logging.getLogger(__name__)

_NOT_A_TOKEN = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class SpeechOrder:
    """A request to speak and how to deliver it; ``sample_rate_hz`` None is the engine's own."""

    request: SpeechRequest
    encoding: str
    sample_rate_hz: int | None = None
    unknown_fields: tuple[str, ...] = ()


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
        body = _Body(send, self._context.service.options.limits.stall_timeout_s)
        try:
            await self._speak(body)
        except VivavoceError as error:
            if not body.begun:
                await problem_response(error)(scope, receive, send)
                return
            log.warning("speech ended early", extra={"code": error.code, "why": error.message})
            await self._end_visibly(scope, body, error)

    async def _speak(self, body: _Body) -> None:
        if self._whole:
            async with self._context.spool.file() as file:
                await self._speak_whole(body, file)
            return
        order, service = self._order, self._context.service
        async with opened(service, order.request, self._framing.transport) as stream:
            target = delivered_format(order.encoding, order.sample_rate_hz, stream.sample_rate_hz)
            await self._deliver(stream, target, body)
        log_speech(stream, order)

    async def _speak_whole(self, body: _Body, file: SpooledFile) -> None:
        """Make all of it, give the slot back, and send it as its client reads."""
        order, service = self._order, self._context.service
        async with opened(service, order.request, self._framing.transport) as stream:
            target = delivered_format(order.encoding, order.sample_rate_hz, stream.sample_rate_hz)
            await _make_whole(stream, target, file)
        opening = b""
        if target.encoding == "wav":
            opening = wav_header(target.sample_rate_hz, file.size)
        length = {"Content-Length": str(len(opening) + file.size)}
        await body.begin(self._response_headers(stream, target) | length)
        patience_s = service.options.limits.request_timeout_s + stream.timings.audio_s
        try:
            async with asyncio.timeout(patience_s):
                last = opening
                async for piece in file.pieces():
                    await body.send(last)
                    last = piece
                    await asyncio.sleep(0)  # memory never waits for anything
                await body.end(last)
        except TimeoutError:
            raise SlowConsumer(f"Not read within {patience_s:.0f} s.") from None
        log_speech(stream, order)

    async def _deliver(self, stream: SpeechStream, target: AudioFormat, body: _Body) -> None:
        async with aclosing(encoded(stream, stream.sample_rate_hz, target)) as pieces:
            first = await anext(pieces)
            await body.begin(self._response_headers(stream, target))
            await body.send(self._framing.opening(target) + self._framing.piece(first))
            async for piece in pieces:
                await body.send(self._framing.piece(piece))
                if stream.timings.cached:
                    await asyncio.sleep(0)  # remembered sound never waits for anything
        await body.end(self._framing.closing(stream.timings))

    async def _end_visibly(self, scope: Scope, body: _Body, error: VivavoceError) -> None:
        last_words = None if isinstance(error, SlowConsumer) else self._framing.failure(error)
        if last_words is not None:
            await body.end(last_words)
            return
        # A reader that stopped would keep the connection open; HTTP/1.0 has no other sign.
        abort = scope.get("extensions", {}).get(ABORT)
        if abort is not None and (
            isinstance(error, SlowConsumer) or scope["http_version"] == "1.0"
        ):
            abort()
        raise StreamBroken(error.code)

    def _response_headers(self, stream: SpeechStream, target: AudioFormat) -> dict[str, str]:
        info, timings = self._context.service.engine.info, stream.timings
        first_ms = timings.first_audio_ms or 0.0
        headers = {
            "Content-Type": self._framing.media_type(target),
            "Cache-Control": "no-cache",
            "X-Accel-Buffering": "no",
            "X-Sample-Rate": str(target.sample_rate_hz),
            "X-Vivavoce-Engine": info.name,
            "X-Vivavoce-Voice": quote(stream.voice.id if stream.voice else "recording"),
            "X-Cache": "hit" if timings.cached else "miss",
            "Server-Timing": f"queue;dur={timings.queue_ms:.1f}, first;dur={first_ms:.1f}",
        }
        if ignored := ignored_fields(self._order, stream):
            headers["X-Ignored-Fields"] = ", ".join(ignored)
        return headers | self._framing.headers(target)


class _Body:
    """Sends a response; a client that takes nothing for too long is a SlowConsumer."""

    def __init__(self, send: Send, stall_timeout_s: float) -> None:
        self.begun = False
        self._send = send
        self._stall_timeout_s = stall_timeout_s

    async def begin(self, headers: dict[str, str]) -> None:
        """Send the status line and headers."""
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        self.begun = True
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def send(self, data: bytes) -> None:
        """Send some of the body."""
        await self._guarded({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes) -> None:
        """Send the last of the body."""
        await self._guarded({"type": "http.response.body", "body": data, "more_body": False})

    async def _guarded(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._stall_timeout_s):
                await self._send(message)
        except TimeoutError:
            raise SlowConsumer(f"Nothing was read for {self._stall_timeout_s:g} s.") from None


async def _make_whole(stream: SpeechStream, target: AudioFormat, file: SpooledFile) -> None:
    """Write a stream to a file; a WAV without its header, which needs the length."""
    inner = AudioFormat("pcm", target.sample_rate_hz) if target.encoding == "wav" else target
    async with aclosing(encoded(stream, stream.sample_rate_hz, inner)) as pieces:
        async for piece in pieces:
            await file.write(piece)
            if stream.timings.cached:
                await asyncio.sleep(0)  # remembered sound never waits for anything


def ignored_fields(order: SpeechOrder, stream: SpeechStream) -> list[str]:
    """Names of fields without effect, fit for a header."""
    return header_names(order.unknown_fields, stream)


def header_names(unknown_fields: tuple[str, ...], stream: SpeechStream) -> list[str]:
    """``unknown_fields`` and what the engine has no use for, fit for a header."""
    names = [*unknown_fields, *stream.ignored][:MAX_UNKNOWN_NAMES]
    return [_NOT_A_TOKEN.sub("_", name)[:MAX_UNKNOWN_CHARS] for name in names]


def log_speech(stream: SpeechStream, order: SpeechOrder) -> None:
    """One line about speech that was delivered; nothing of what it said."""
    timings = stream.timings
    extra = {
        "characters": timings.characters,
        "audio_s": round(timings.audio_s, 2),
        "queue_ms": round(timings.queue_ms, 1),
        "first_audio_ms": round(timings.first_audio_ms or 0.0, 1),
        "cached": timings.cached,
        "encoding": order.encoding,
    }
    if ignored := ignored_fields(order, stream):
        extra["ignored"] = ", ".join(ignored)
    log.info("spoken", extra=extra)
