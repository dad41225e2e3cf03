"""``POST /v1/audio/speech``: OpenAI's contract, and what live calls need beyond it.

``pcm`` and server-sent events are 24,000 Hz and G.711 is 8,000 Hz unless ``sample_rate`` says
otherwise; containers keep the engine's own rate, or the next one that their codec carries.
"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from vivavoce.audio.containers import find_encoding
from vivavoce.errors import InputError
from vivavoce.serving.context import context_of
from vivavoce.serving.framing import EVENT_STREAM, Framing, OpenAIEvents
from vivavoce.serving.models import check_model
from vivavoce.serving.reading import read_json
from vivavoce.serving.speaking import SpeechOrder, SpeechResponse
from vivavoce.serving.speech_answers import (
    encoding_media_types,
    json_body,
    report_invalid,
    speech_responses,
)
from vivavoce.serving.speech_body import SpeechBody

OPENAI_RATE_HZ = 24_000

router = APIRouter(tags=["speech"])


class OpenAISpeechBody(SpeechBody):
    """OpenAI's fields and ours."""

    model: str | None = Field(
        None, description="OpenAI's names and the engine's own; see /v1/models."
    )
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm", "ulaw", "alaw", "ogg"] = (
        Field("mp3", description="ulaw, alaw and ogg are extensions.")
    )
    stream_format: Literal["audio", "sse"] = "audio"
    stream: bool = Field(
        True,
        description="false: all of it is made first, then sent as a file with its true length.",
    )

    def default_rate_hz(self) -> int | None:
        """The rate where none is asked for; None is the engine's own."""
        if self.response_format == "pcm" or self.stream_format == "sse":
            return OPENAI_RATE_HZ
        if self.response_format in ("ulaw", "alaw"):
            return find_encoding(self.response_format).native_hz
        return None


@router.post(
    "/v1/audio/speech",
    summary="Speak a text",
    response_class=Response,
    responses=speech_responses(*encoding_media_types(), EVENT_STREAM),
    openapi_extra=json_body(OpenAISpeechBody),
)
async def speak(request: Request) -> Response:
    """Speaks in any format; the sound leaves as it is made, unless ``stream`` is false."""
    context = context_of(request)
    try:
        body = await read_json(request, OpenAISpeechBody)
        if body.stream_format == "sse" and not body.stream:
            raise InputError("Events are a stream; leave stream=false out.", param="stream")
    except InputError as error:
        report_invalid(context, error, "http")
        raise
    check_model(body.model, context.service.engine.info)
    order = SpeechOrder(
        request=body.to_request(),
        encoding=body.response_format,
        sample_rate_hz=body.sample_rate or body.default_rate_hz(),
        unknown_fields=body.unknown_fields,
    )
    framing = OpenAIEvents() if body.stream_format == "sse" else Framing()
    return SpeechResponse(context, order, framing, whole=not body.stream)
