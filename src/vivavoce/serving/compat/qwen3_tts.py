"""The FastAPI server for Qwen3-TTS (``server.py``, port 8101).

It answered WAV where no format was asked for, also for a format that it did not know; its events
hold sound and nothing else; its errors are ``{"code", "message", "context", "statusCode"}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter, Request, Response

from vivavoce.audio.formats import ENCODINGS
from vivavoce.errors import VivavoceError
from vivavoce.serving.compat.old_server import Fields, OldError, OldServer, Voices, given
from vivavoce.serving.dialects.native import speak_pcm
from vivavoce.serving.problems import error_detail
from vivavoce.serving.responses import PcmEvents
from vivavoce.types import AudioFormat

SPEECH = "/v1/audio/speech"
CLONE = "/v1/audio/speech/clone"
FORMATS = ("wav", "mp3", "flac", "ogg", "opus")
SPEAKERS = (
    "vivian", "serena", "uncle_fu", "dylan", "eric", "ryan", "aiden", "ono_anna", "sohee",
)  # fmt: skip
"""Its voices: speakers of a CustomVoice model here, the default voice of any other."""

ALIASES = MappingProxyType({
    "alloy": "ryan", "echo": "aiden", "fable": "dylan",
    "onyx": "uncle_fu", "nova": "vivian", "shimmer": "serena",
})  # fmt: skip
"""OpenAI's names that it knew: also for voices of those names that were saved here."""

DEFAULT_VOICE = "vivian"
RETRY_AFTER_S = 5
CODES = MappingProxyType({
    "busy": "QUEUE_FULL",
    "rate_limit_exceeded": "QUEUE_FULL",
    "empty_input": "EMPTY_INPUT",
    "unknown_voice": "UNKNOWN_VOICE",
    "invalid_audio": "INVALID_AUDIO",
    "deadline_exceeded": "SYNTHESIS_TIMEOUT",
    "engine_error": "SYNTHESIS_FAILED",
    "runaway_output": "SYNTHESIS_FAILED",
})  # fmt: skip
"""Its codes; what it did not know keeps our code, in capitals."""

router = APIRouter(include_in_schema=False)


class SoundEvents(PcmEvents):
    """Every ``data:`` line is base64 of s16le, but for the last, or is an ``[ERROR]``."""

    def opening(self, target: AudioFormat) -> bytes:
        """Nothing: its clients decode the first line, too."""
        return b""

    def failure(self, error: VivavoceError) -> bytes | None:
        """A line without a name, and the end."""
        message = " ".join(error_detail(error)["message"].split())
        return f"data: [ERROR] {message}\n\ndata: [DONE]\n\n".encode()


@router.post("/v1/audio/speech/stream")
async def stream_sound_events(request: Request) -> Response:
    """``data:`` lines of base64 s16le, then ``data: [DONE]``."""
    return await speak_pcm(request, SoundEvents())


def spoken_fields(fields: Fields, voices: Voices) -> Fields:
    """What every way to speak shared: its voices, and a model that it never looked at."""
    fields = given(fields)
    fields.pop("model", None)
    name = fields.get("voice") or (None if voices.chosen else DEFAULT_VOICE)
    fields["voice"] = voices.chosen
    if isinstance(name, str):
        stands_for = ALIASES.get(name.lower(), name)
        name = stands_for if voices.known(stands_for) else name
        fields["voice"] = voices.known(name) or (None if name.lower() in SPEAKERS else name)
    elif name is not None:
        fields["voice"] = name
    return fields


def file_fields(fields: Fields, voices: Voices) -> Fields:
    """A whole file, WAV if nothing else that it knew was asked for; never events."""
    fields = spoken_fields(fields, voices)
    wanted = fields.get("response_format")
    fields["response_format"] = wanted if wanted in FORMATS else "wav"
    return fields | {"stream_format": "audio", "stream": False}


def error_of(status: int, path: str, detail: Mapping[str, Any]) -> OldError:
    """Its body; where all is taken its status is 503."""
    code = CODES.get(detail["code"] or "", (detail["code"] or "internal_error").upper())
    if path == CLONE and status == 500:
        code = "CLONE_FAILED"
    headers = {"Retry-After": str(RETRY_AFTER_S)} if code == "QUEUE_FULL" else {}
    status = 503 if code == "QUEUE_FULL" else status
    context = {} if detail["param"] is None else {"field": detail["param"]}
    body = {"code": code, "message": detail["message"], "context": context, "statusCode": status}
    return OldError(status, body, headers)


def file_headers(path: str, media_type: str) -> Mapping[str, str]:
    """Files came as attachments."""
    if path not in (SPEECH, CLONE):
        return {}
    named = (name for name in FORMATS if ENCODINGS[name].mime_type == media_type)
    name = next(named, "wav")
    return {"Content-Disposition": f'attachment; filename="speech.{name}"'}


SERVER = OldServer(
    fields=MappingProxyType({
        SPEECH: file_fields,
        f"{SPEECH}/stream": spoken_fields,
        f"{SPEECH}/stream/pcm": spoken_fields,
        f"{SPEECH}/ws": spoken_fields,
    }),
    error=error_of,
    headers=file_headers,
    silent_events=frozenset({"start"}),
    router=router,
)  # fmt: skip
