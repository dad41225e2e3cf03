"""Model names: OpenAI's stand for the engine in use, and the lists that clients ask for."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

from vivavoce.engines.base import EngineInfo
from vivavoce.errors import UnknownModel
from vivavoce.serving.context import context_of
from vivavoce.serving.problems import documented

OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15")

router = APIRouter(tags=["models"])


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


@router.get("/v1/models", summary="List the models")
async def list_models(request: Request) -> ModelList:
    """Every model name that requests may give."""
    return ModelList(data=[Model(id=name) for name in _names(request)])


@router.get("/v1/models/{model_id:path}", summary="Describe a model", responses=documented(404))
async def get_model(request: Request, model_id: str) -> Model:
    """One model."""
    check_model(model_id, context_of(request).service.engine.info)
    return Model(id=model_id)


@router.get("/v1/audio/models", summary="List the models for Open WebUI")
async def list_audio_models(request: Request) -> AudioModelList:
    """The same names in the shape that Open WebUI reads."""
    names = _names(request)
    models = [AudioModel(id=name, name=name) for name in names]
    return AudioModelList(models=models, data=[Model(id=name) for name in names])


def _names(request: Request) -> list[str]:
    return known_models(context_of(request).service.engine.info)
