"""The application: routes, middleware and the service's life, put together and nothing more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import numpy as np
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

import vivavoce
from vivavoce.audio.encode import Delivery, delivered_format
from vivavoce.serving import docs_page, health, metrics, minting, usage
from vivavoce.serving.auth import Doors
from vivavoce.serving.client_tokens import derive_signing_keys
from vivavoce.serving.compat.layers import SERVERS, OldAnswers, OldRequests
from vivavoce.serving.context import ServerContext
from vivavoce.serving.dialects import clone, native, openai, play, voices, websocket
from vivavoce.serving.keys import KeyRing
from vivavoce.serving.loudspeaker import make_loudspeaker
from vivavoce.serving.middleware import BodyLimits, HeadRequests, InFlight, RejectTimes, RequestIds
from vivavoce.serving.openapi import install_openapi
from vivavoce.serving.origins import HostRule, OriginRule
from vivavoce.serving.problems import install_problem_handlers
from vivavoce.settings import Settings
from vivavoce.speech.encoding import start_threads
from vivavoce.speech.service import SpeechService

log = logging.getLogger(__name__)

EXPOSED_HEADERS = (
    "X-Request-ID", "X-Sample-Rate", "X-Cache", "X-Ignored-Fields", "Server-Timing",
    "X-PCM-Sample-Rate", "X-PCM-Bit-Depth", "X-PCM-Channels", "Retry-After", "retry-after-ms",
)  # fmt: skip
WARM_UP_HZ = 48_000
ROUTERS = (
    openai.router, native.router, clone.router, websocket.router, play.router, voices.router,
    openai.models_router, health.router, metrics.router, usage.router, minting.router,
    docs_page.router,
)  # fmt: skip


def create_app(service: SpeechService, settings: Settings) -> FastAPI:
    """The application around a service that it starts and closes itself.

    Raises SettingsError for ``allowed_hosts`` and ``cors_origins`` that are none.
    """
    in_flight = InFlight()
    playing = make_loudspeaker(service, settings, in_flight)
    derive_signing_keys(settings)
    context = ServerContext(service, settings, in_flight, playing, KeyRing.of(settings))
    app = FastAPI(
        title="vivavoce",
        version=vivavoce.__version__,
        description="Text-to-speech for live voice conversations.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    app.state.on_failed_start = _stay_and_say_so
    old = SERVERS.get(settings.compat)
    if old is not None and old.router is not None:
        app.include_router(old.router)
    for router in ROUTERS:
        app.include_router(router)
    install_problem_handlers(app, [route for each in ROUTERS for route in each.routes])
    install_openapi(app, context)
    _add_middleware(app, context)
    return app


def _add_middleware(app: FastAPI, context: ServerContext) -> None:
    """The last one added is the outermost."""
    settings, origins = context.settings, OriginRule.of(context.settings)
    old, service = SERVERS.get(settings.compat), context.service
    if old is not None:
        voices, default = (lambda: service.voices), settings.default_voice
        app.add_middleware(OldRequests, old=old, voices=voices, default_voice=default)
    app.add_middleware(HeadRequests)
    app.add_middleware(
        BodyLimits,
        max_body_bytes=settings.max_body_bytes,
        max_upload_bytes=settings.max_upload_bytes,
    )
    app.add_middleware(Doors, ring=context.ring, hosts=HostRule.of(settings), origins=origins)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins.names,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(RejectTimes, observer=context.service.observer)
    app.add_middleware(RequestIds, in_flight=context.in_flight)
    if old is not None:
        app.add_middleware(OldAnswers, old=old)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load in the background, so that the server answers (503, and why) from the first moment."""
    context: ServerContext = app.state.context
    starting = asyncio.create_task(_start(app))
    try:
        yield
    finally:
        starting.cancel()
        await asyncio.wait({starting})
        if context.playing is not None:
            await context.playing.close()
        await context.service.close()


async def _start(app: FastAPI) -> None:
    context: ServerContext = app.state.context
    try:
        await asyncio.to_thread(_warm_up)
        await context.service.start(preload=context.settings.preload_model)
    except Exception as error:  # noqa: BLE001 - boundary: whatever loading an engine may raise
        # The lifecycle remembers it: requests, /readyz and /livez answer 503 with the reason.
        app.state.on_failed_start(error)


def _stay_and_say_so(error: Exception) -> None:
    """What an application does by itself; our server ends instead."""
    log.error("the engine could not start: %s", error)


def _warm_up() -> None:
    """Load the codecs and the resampler and begin their threads; the first request need not."""
    start_threads()
    sound = np.zeros(WARM_UP_HZ // 10, np.float32)
    for encoding in ("mp3", "opus", "pcm"):
        target = delivered_format(encoding, WARM_UP_HZ // 2, WARM_UP_HZ)
        with closing(Delivery(WARM_UP_HZ, target)) as delivery:
            delivery.push(sound)
            delivery.finish()
