"""WebSocket ``/v1/audio/speech/ws``: one text per JSON message, binary sound and events back.

Client → server: ``{"input": …}`` with the fields of SpeechBody and ``response_format`` (pcm, ulaw
or alaw); ``{"type": "cancel"}``. Texts are spoken in the order they came.

Server → client: ``{"event": "start", …}``, binary frames, ``{"event": "done", …}``; or
``cancelled``; or ``error``, after which the socket can be used on.
"""

from __future__ import annotations

import asyncio
import collections
import json
import logging
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.websockets import WebSocket, WebSocketDisconnect

from vivavoce.audio.containers import find_encoding
from vivavoce.errors import Busy, InputError, SlowConsumer, Unauthorized, VivavoceError
from vivavoce.serving.auth import POLICY_VIOLATION
from vivavoce.serving.callers import opened
from vivavoce.serving.connections import ABORT, BUSY
from vivavoce.serving.context import ServerContext, context_of
from vivavoce.serving.logs import request_id
from vivavoce.serving.problems import error_event
from vivavoce.serving.reading import checked, read_object
from vivavoce.serving.speaking import SpeechOrder, ignored_fields, log_speech
from vivavoce.serving.speech_answers import report_invalid
from vivavoce.serving.speech_body import SpeechBody
from vivavoce.serving.waiting import Share, size_of
from vivavoce.speech.delivery import delivered_format, encoded
from vivavoce.speech.stream import SpeechStream
from vivavoce.types import AudioFormat

log = logging.getLogger(__name__)

MAX_PENDING = 8
"""Texts that may wait while another is spoken."""

PENDING_RETRY_MS = 1_000
UNSUPPORTED_DATA = 1003
TRANSPORT = "ws"

router = APIRouter()


class SocketSpeechBody(SpeechBody):
    """One text to speak over a socket."""

    type: Literal["speak"] = "speak"
    response_format: Literal["pcm", "ulaw", "alaw"] = Field("pcm", description="pcm is s16le.")

    def to_order(self) -> SpeechOrder:
        """PCM at the engine's own rate, G.711 at 8,000 Hz, unless asked otherwise."""
        native_hz = find_encoding(self.response_format).native_hz
        rate_hz = self.sample_rate or native_hz
        return SpeechOrder(self.to_request(), self.response_format, rate_hz, self.unknown_fields)


@dataclass(frozen=True, slots=True)
class _Text:
    order: SpeechOrder
    request_id: str
    size: int


@router.websocket("/v1/audio/speech/ws")
async def speech_socket(socket: WebSocket) -> None:
    """Serve one socket until either side leaves."""
    await socket.accept()
    await Conversation(socket, context_of(socket)).run()


class Conversation:
    """One socket: a task that listens and a task that speaks."""

    def __init__(self, socket: WebSocket, context: ServerContext) -> None:
        self._socket = socket
        self._context = context
        self._pending: collections.deque[_Text] = collections.deque()
        self._share = Share(context.waiting)
        self._arrived = asyncio.Event()
        self._speaking: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._identity = request_id.get()
        self._count = 0

    async def run(self) -> None:
        """Listen and speak; whichever ends first ends both."""
        tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._speak_all())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self._forget()
        for result in results:
            if isinstance(result, SlowConsumer):
                self._abort(result)
            elif isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect):
                raise result

    async def _listen(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is None:
                await self._send(error_event(InputError("Binary messages mean nothing here.")))
                await self._socket.close(UNSUPPORTED_DATA)
                return
            await self._take(text)

    async def _take(self, text: str) -> None:
        try:
            fields = await read_object(text)
            if fields.get("type") == "cancel":
                await self._cancel()
                return
            self._enqueue(checked(fields, SocketSpeechBody))
        except InputError as error:
            report_invalid(self._context, error, TRANSPORT)
            await self._send(error_event(error))
        except Busy as error:
            await self._send(error_event(error))

    def _enqueue(self, body: SocketSpeechBody) -> None:
        if len(self._pending) >= MAX_PENDING:
            message = f"{MAX_PENDING} texts wait on this socket already."
            raise Busy(message, retry_after_ms=PENDING_RETRY_MS)
        order = body.to_order()
        size = size_of(order.request)
        self._share.take(size)
        self._count += 1
        self._pending.append(_Text(order, f"{self._identity}-{self._count}", size))
        self._arrived.set()

    def _forget(self) -> None:
        """Drop what waits."""
        self._pending.clear()
        self._share.give_all_back()

    async def _cancel(self) -> None:
        """Stop what is spoken and forget what waits; nothing of it is sent after the answer."""
        count = len(self._pending)
        self._forget()
        speaking = self._speaking
        if speaking is not None and not speaking.done():
            count += 1
            speaking.cancel()
            await asyncio.wait({speaking})
        await self._send({"event": "cancelled", "count": count})

    async def _speak_all(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            self._tell_busy(True)
            while self._pending:
                text = self._pending.popleft()
                self._share.give_back(text.size)
                self._speaking = asyncio.create_task(self._speak(text))
                del text
                try:
                    await asyncio.wait({self._speaking})
                finally:
                    self._speaking.cancel()
                    await asyncio.wait({self._speaking})
                with suppress(asyncio.CancelledError):
                    self._speaking.result()
            self._tell_busy(False)

    async def _speak(self, text: _Text) -> None:
        """Speak one text. Raises SlowConsumer where the client has stopped reading."""
        request_id.set(text.request_id)
        with self._context.in_flight.one():
            try:
                await self._deliver(text)
            except SlowConsumer:
                raise
            except Unauthorized as error:
                await self._send(error_event(error) | {"request_id": text.request_id})
                await self._show_out()
            except VivavoceError as error:
                await self._send(error_event(error) | {"request_id": text.request_id})

    async def _deliver(self, text: _Text) -> None:
        order = text.order
        async with opened(self._context.service, order.request, TRANSPORT) as stream:
            target = delivered_format(order.encoding, order.sample_rate_hz, stream.sample_rate_hz)
            async with aclosing(encoded(stream, stream.sample_rate_hz, target)) as pieces:
                first = await anext(pieces)
                await self._send(_start_event(text, stream, target))
                await self._send(first)
                async for piece in pieces:
                    await self._send(piece)
                    if stream.timings.cached:
                        await asyncio.sleep(0)  # remembered sound never waits for anything
        log_speech(stream, order)
        await self._send(_done_event(text, stream))

    async def _show_out(self) -> None:
        """Close the socket of a caller whose key was removed, or whose token expired."""
        self._forget()
        stall_timeout_s = self._context.service.options.limits.stall_timeout_s
        with suppress(TimeoutError):
            async with asyncio.timeout(stall_timeout_s), self._writing:
                await self._socket.close(POLICY_VIOLATION)

    async def _send(self, message: dict[str, Any] | bytes) -> None:
        """Send one message. Raises SlowConsumer where it cannot leave for too long."""
        stall_timeout_s = self._context.service.options.limits.stall_timeout_s
        try:
            async with asyncio.timeout(stall_timeout_s), self._writing:
                if isinstance(message, bytes):
                    await self._socket.send_bytes(message)
                else:
                    await self._socket.send_text(json.dumps(message))
        except TimeoutError:
            raise SlowConsumer(f"Nothing was read for {stall_timeout_s:g} s.") from None

    def _tell_busy(self, busy: bool) -> None:
        tell = self._socket.scope.get("extensions", {}).get(BUSY)
        if tell is not None:
            tell(busy)

    def _abort(self, error: SlowConsumer) -> None:
        log.warning("speech ended early", extra={"code": error.code, "why": error.message})
        abort = self._socket.scope.get("extensions", {}).get(ABORT)
        if abort is not None:
            abort()


def _start_event(text: _Text, stream: SpeechStream, target: AudioFormat) -> dict[str, Any]:
    encoding = "pcm_s16le" if target.encoding == "pcm" else target.encoding
    return {
        "event": "start",
        "request_id": text.request_id,
        "sample_rate": target.sample_rate_hz,
        "encoding": encoding,
        "channels": 1,
        "ignored": ignored_fields(text.order, stream),
    }


def _done_event(text: _Text, stream: SpeechStream) -> dict[str, Any]:
    timings = stream.timings
    return {
        "event": "done",
        "request_id": text.request_id,
        "audio_s": round(timings.audio_s, 3),
        "queue_ms": round(timings.queue_ms, 1),
        "first_audio_ms": round(timings.first_audio_ms or 0.0, 1),
        "total_ms": round(timings.total_ms or 0.0, 1),
        "cached": timings.cached,
    }
