"""How encoded sound is laid into a response body: as it is, or as server-sent events."""

from __future__ import annotations

import base64
import json
from typing import Any

from vivavoce.audio.containers import find_encoding
from vivavoce.errors import VivavoceError
from vivavoce.serving.problems import error_detail
from vivavoce.types import AudioFormat, Timings

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
