"""``POST /v1/audio/speech`` and the lists of models: OpenAI's contract, and what live calls need.

``pcm`` and server-sent events are 24,000 Hz and G.711 is 8,000 Hz unless ``sample_rate`` says
otherwise; containers keep the engine's own rate, or the next one that their codec carries.

Model names of OpenAI's stand for the engine in use.
"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from vivavoce.audio.formats import find_encoding
from vivavoce.engines.base import EngineInfo
from vivavoce.errors import InputError, UnknownModel
from vivavoce.serving.body import SpeechBody, json_body, read_json
from vivavoce.serving.context import context_of
from vivavoce.serving.problems import documented
from vivavoce.serving.responses import (
    EVENT_STREAM,
    Framing,
    OpenAIEvents,
    SpeechResponse,
    encoding_media_types,
    speech_responses,
)
from vivavoce.serving.session import SpeechOrder, invalid_counted

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
    with invalid_counted(context.service, "http"):
        body = await read_json(request, OpenAISpeechBody)
        if body.stream_format == "sse" and not body.stream:
            raise InputError("Events are a stream; leave stream=false out.", param="stream")
    check_model(body.model, context.service.engine.info)
    order = SpeechOrder(
        request=body.to_request(),
        encoding=body.response_format,
        sample_rate_hz=body.sample_rate or body.default_rate_hz(),
        unknown_fields=body.unknown_fields,
    )
    framing = OpenAIEvents() if body.stream_format == "sse" else Framing()
    return SpeechResponse(context, order, framing, whole=not body.stream)


OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15")

models_router = APIRouter(tags=["models"])


class Model(BaseModel):
    """A model as OpenAI describes one."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "vivavoce"


class ModelList(BaseModel):
    """OpenAI's list."""

    object: str = "list"
    data: list[Model]


class AudioModel(BaseModel):
    """A model as Open WebUI reads one."""

    id: str
    name: str


class AudioModelList(BaseModel):
    """Open WebUI's list, and OpenAI's beside it."""

    models: list[AudioModel]
    object: str = "list"
    data: list[Model]


def known_models(info: EngineInfo) -> list[str]:
    """The engine's own names first, then OpenAI's."""
    own = [info.name, info.model] if info.model else [info.name]
    return list(dict.fromkeys((*own, *OPENAI_MODELS)))


def check_model(name: str | None, info: EngineInfo) -> None:
    """Raise UnknownModel for a name that stands for nothing here; none, or "", is the engine."""
    known = known_models(info)
    if name and name not in known:
        raise UnknownModel(name, known)


@models_router.get("/v1/models", summary="List the models")
async def list_models(request: Request) -> ModelList:
    """Every model name that requests may give."""
    return ModelList(data=[Model(id=name) for name in _names(request)])


@models_router.get(
    "/v1/models/{model_id:path}", summary="Describe a model", responses=documented(404)
)
async def get_model(request: Request, model_id: str) -> Model:
    """One model."""
    check_model(model_id, context_of(request).service.engine.info)
    return Model(id=model_id)


@models_router.get("/v1/audio/models", summary="List the models for Open WebUI")
async def list_audio_models(request: Request) -> AudioModelList:
    """The same names in the shape that Open WebUI reads."""
    names = _names(request)
    models = [AudioModel(id=name, name=name) for name in names]
    return AudioModelList(models=models, data=[Model(id=name) for name in names])


def _names(request: Request) -> list[str]:
    return known_models(context_of(request).service.engine.info)
