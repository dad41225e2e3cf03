"""What load balancers, dashboards and operators ask: alive, ready, and in what state."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

import vivavoce
from vivavoce.serving.callers import has_key, visible
from vivavoce.serving.context import ServerContext, context_of
from vivavoce.serving.hardware import Hardware, hardware_fields, plain
from vivavoce.serving.problems import documented
from vivavoce.speech.service import SpeechService

router = APIRouter(tags=["health"])

SPEAKING_STATES = ("ready", "unloaded", "draining")

READY_SHARE = 0.5
"""Of its limit, how much work may take before no more requests should come: /readyz fails sooner
than /livez, so that callers are sent elsewhere before the process is restarted."""


class Liveness(BaseModel):
    """Whether to restart the process."""

    status: str
    reason: str | None = None


class Readiness(BaseModel):
    """Whether to send requests here."""

    status: str
    state: str
    reason: str | None = None


class HealthState(BaseModel):
    """The state without a word about what speaks here: for whoever has no key."""

    status: str
    state: str


class Health(Hardware, HealthState):
    """The state in one look."""

    version: str
    engine: str
    model_loaded: bool
    model_id: str
    device: str
    devices: dict[str, str] = Field({}, description="Where each part of the engine runs.")
    cuda: bool
    capacity: int
    running: int
    queue_depth: int
    max_queue_depth: int
    voices: list[str]
    audio_cache_size: int
    audio_cache_max: int
    voice_cache_size: int
    voice_cache_max: int
    voice_cache_hits: int


class Info(Hardware):
    """What speaks here, and what it can do."""

    version: str
    engine: str
    model_id: str
    device: str
    sample_rate: int
    languages: list[str]
    capabilities: dict[str, bool]
    details: dict[str, Any]
    stream_type: str
    voices: list[str]


class Cleared(BaseModel):
    """How many entries were forgotten."""

    audio_cleared: int
    voice_cleared: int


class Index(BaseModel):
    """Where to look."""

    name: str = "vivavoce"
    version: str
    docs: str = "/docs"
    openapi: str = "/openapi.json"


def _answers(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {503: {"model": model, "description": "Not now."}}


@router.get("/", summary="Index")
async def index() -> Index:
    """Small and quick: some clients warm their connections up with it."""
    return Index(version=vivavoce.__version__)


@router.get("/livez", summary="Alive", response_model=Liveness, responses=_answers(Liveness))
async def livez(request: Request) -> Response:
    """503 when the engine failed or has been at one thing for too long: restart the process."""
    reason = why_not_alive(context_of(request))
    return _answer(Liveness(status="failed" if reason else "ok", reason=reason), reason)


@router.get("/readyz", summary="Ready", response_model=Readiness, responses=_answers(Readiness))
async def readyz(request: Request) -> Response:
    """200 once real audio was synthesised; 503 while starting, draining, late, or after a failure.

    With ``preload_model=false`` it is 200 in the state ``unloaded`` once the model's files were
    found: the first request loads it.
    """
    context = context_of(request)
    reason = why_not_ready(context)
    state = context.service.lifecycle.state
    answer = Readiness(status="not ready" if reason else "ready", state=state, reason=reason)
    return _answer(answer, reason)


@router.get(
    "/health",
    summary="State",
    response_model=Health | HealthState,
    responses={503: {"model": Health | HealthState, "description": "Not now."}},
)
async def health(request: Request) -> Response:
    """200 when ready, else 503; the body is the same.

    Where keys are set, it is whole with one; without one, and with a client token, it has
    ``status`` and ``state`` alone.
    """
    context = context_of(request)
    reason = why_not_ready(context)
    whole = _health(context, reason)
    if context.ring.locked and not has_key():
        return _answer(HealthState(status=whole.status, state=whole.state), reason)
    return _answer(whole, reason)


@router.get("/v1/info", summary="What speaks here")
async def info(request: Request) -> Info:
    """The engine and its abilities."""
    service = context_of(request).service
    about, can = service.engine.info, service.engine.info.capabilities
    return Info(
        version=vivavoce.__version__,
        engine=about.name,
        model_id=about.model,
        device=about.device,
        sample_rate=about.sample_rate_hz,
        languages=list(about.languages),
        capabilities={name: getattr(can, name) for name in can.__dataclass_fields__},
        details=plain(about.details),
        stream_type="token",
        voices=_voice_names(service),
        **hardware_fields(about, service.guarded.gpu()),
    )


@router.post("/cache/clear", summary="Forget remembered speech", responses=documented(413))
async def clear_caches(request: Request) -> Cleared:
    """Empties the audio cache and the cloned voices in memory; saved voices stay on disk."""
    service = context_of(request).service
    return Cleared(audio_cleared=service.cache.clear(), voice_cleared=service.voices.clear_cache())


def why_not_alive(context: ServerContext) -> str | None:
    """Why the process should be restarted, or None."""
    lifecycle = context.service.lifecycle
    if lifecycle.loop.failure is not None:
        return lifecycle.loop.failure.message
    if lifecycle.state == "new" or lifecycle.loop.running:
        return lifecycle.late()
    return "The engine's thread has ended."


def why_not_ready(context: ServerContext) -> str | None:
    """Why no requests should come, or None."""
    lifecycle = context.service.lifecycle
    if lifecycle.loop.failure is not None:
        return lifecycle.loop.failure.message
    if lifecycle.ready:
        return lifecycle.late(READY_SHARE)
    if lifecycle.state == "draining":
        return "The server is shutting down."
    return "The engine is still loading."


def _health(context: ServerContext, reason: str | None) -> Health:
    service, admission = context.service, context.service.admission
    about, cache = service.engine.info, service.cache
    return Health(
        status="not ready" if reason else "ok",
        state=service.lifecycle.state,
        version=vivavoce.__version__,
        engine=about.name,
        model_loaded=service.lifecycle.state in ("ready", "draining"),
        model_id=about.model,
        device=about.device,
        devices=dict(about.details.get("devices", {})),
        cuda=about.device.startswith("cuda"),
        capacity=admission.capacity,
        running=admission.running,
        queue_depth=admission.waiting,
        max_queue_depth=admission.max_waiting or 0,
        voices=_voice_names(service),
        audio_cache_size=cache.stats.entries,
        audio_cache_max=cache.max_entries,
        voice_cache_size=service.voices.cached,
        voice_cache_max=service.options.voice_cache_max,
        voice_cache_hits=service.voices.hits,
        **hardware_fields(about, service.guarded.gpu()),
    )


def _voice_names(service: SpeechService) -> list[str]:
    """Engines know their voices once they are loaded."""
    if service.lifecycle.state not in SPEAKING_STATES:
        return []
    voices = [*service.voices.builtin(), *service.voices.saved()]
    return [voice.id for voice in visible(service, voices)]


def _answer(body: BaseModel, reason: str | None) -> Response:
    return JSONResponse(body.model_dump(), 503 if reason else 200)
