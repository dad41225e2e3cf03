"""``/v1/audio/speech/stream`` and ``/stream/pcm``: raw PCM as it is made, in events or bare.

Both are s16le mono at the engine's own rate unless ``sample_rate`` says otherwise.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from vivavoce.serving.body import SpeechBody, json_body, read_json
from vivavoce.serving.context import context_of
from vivavoce.serving.responses import (
    EVENT_STREAM,
    Framing,
    PcmEvents,
    PcmFraming,
    SpeechResponse,
    speech_responses,
)
from vivavoce.serving.session import SpeechOrder, invalid_counted

router = APIRouter(tags=["speech"])


@router.post(
    "/v1/audio/speech/stream",
    summary="Speak a text as server-sent events",
    response_class=Response,
    responses=speech_responses(EVENT_STREAM),
    openapi_extra=json_body(SpeechBody),
)
async def stream_events(request: Request) -> Response:
    """``event: metadata`` (JSON), then ``data:`` lines of base64 s16le, then ``data: [DONE]``."""
    return await speak_pcm(request, PcmEvents())


@router.post(
    "/v1/audio/speech/stream/pcm",
    summary="Speak a text as raw PCM",
    response_class=Response,
    responses=speech_responses("application/octet-stream"),
    openapi_extra=json_body(SpeechBody),
)
async def stream_pcm(request: Request) -> Response:
    """Bare s16le mono; the headers X-PCM-Sample-Rate, -Bit-Depth and -Channels describe it."""
    return await speak_pcm(request, PcmFraming())


async def speak_pcm(request: Request, framing: Framing) -> Response:
    """Speak what a body of SpeechBody's fields asks for. Raises InputError."""
    context = context_of(request)
    with invalid_counted(context.service, framing.transport):
        body = await read_json(request, SpeechBody)
    order = SpeechOrder(body.to_request(), "pcm", body.sample_rate, body.unknown_fields)
    return SpeechResponse(context, order, framing)
