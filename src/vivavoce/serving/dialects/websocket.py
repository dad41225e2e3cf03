"""WebSocket ``/v1/audio/speech/ws``: one text per JSON message, binary sound and events back.

Client → server: ``{"input": …}`` with the fields of SpeechBody and ``response_format`` (pcm, ulaw
or alaw); ``{"type": "cancel"}``. Texts are spoken in the order they came.

Server → client: ``{"event": "start", …}``, binary frames, ``{"event": "done", …}``; or
``cancelled``; or ``error``, after which the socket can be used on.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.websockets import WebSocket

from vivavoce.audio.formats import find_encoding
from vivavoce.errors import InputError
from vivavoce.serving.body import SpeechBody, checked, read_object
from vivavoce.serving.context import context_of
from vivavoce.serving.conversation import Cancel, Close, Command, Conversation, Speak
from vivavoce.serving.problems import error_event
from vivavoce.serving.session import Cancelled, Done, Event, Failed, Sound, SpeechOrder, Started

UNSUPPORTED_DATA = 1003

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


class JsonDialect:
    """Ours: a JSON object a message, and bare bytes of sound."""

    transport = "ws"

    async def read(self, message: str | bytes) -> Command:
        """What a message asks for. Raises InputError."""
        if isinstance(message, bytes):
            return Close(UNSUPPORTED_DATA, InputError("Binary messages mean nothing here."))
        fields = await read_object(message)
        if fields.get("type") == "cancel":
            return Cancel()
        return Speak(checked(fields, SocketSpeechBody).to_order())

    def write(self, event: Event) -> str | bytes | None:
        """The message that tells an event."""
        match event:
            case Sound(data=data):
                return data
            case Started():
                return json.dumps(_start_event(event))
            case Done():
                return json.dumps(_done_event(event))
            case Failed(error=error, utterance=utterance):
                named = {} if utterance is None else {"request_id": utterance}
                return json.dumps(error_event(error) | named)
            case Cancelled(count=count):
                return json.dumps({"event": "cancelled", "count": count})
        return None


@router.websocket("/v1/audio/speech/ws")
async def speech_socket(socket: WebSocket) -> None:
    """Serve one socket until either side leaves."""
    await socket.accept()
    await Conversation(socket, context_of(socket), JsonDialect()).run()


def _start_event(started: Started) -> dict[str, Any]:
    encoding = started.format.encoding
    return {
        "event": "start",
        "request_id": started.utterance,
        "sample_rate": started.format.sample_rate_hz,
        "encoding": "pcm_s16le" if encoding == "pcm" else encoding,
        "channels": 1,
        "ignored": list(started.ignored),
    }


def _done_event(done: Done) -> dict[str, Any]:
    timings = done.timings
    return {
        "event": "done",
        "request_id": done.utterance,
        "audio_s": round(timings.audio_s, 3),
        "queue_ms": round(timings.queue_ms, 1),
        "first_audio_ms": round(timings.first_audio_ms or 0.0, 1),
        "total_ms": round(timings.total_ms or 0.0, 1),
        "cached": timings.cached,
    }
