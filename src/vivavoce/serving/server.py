"""The process: settings to a running server, and its end without cutting anybody off.

On the first SIGTERM or SIGINT the server stops being ready, refuses new speech with 503, lets
what runs finish (at most ``drain_timeout_s``), and exits 0. uvicorn alone would close every
WebSocket with 1012 the moment the signal comes. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import struct
import time
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from vivavoce.engines.registry import create_engine
from vivavoce.errors import SettingsError, SetupError, VivavoceError
from vivavoce.serving.app import create_app
from vivavoce.serving.context import ServerContext
from vivavoce.serving.logs import configure_logging
from vivavoce.serving.metrics import PrometheusObserver
from vivavoce.serving.origins import is_loopback
from vivavoce.serving.playing import check_playback
from vivavoce.serving.rejects import BODY_ENDED
from vivavoce.serving.rereading import reread_keys_on_hangup
from vivavoce.serving.speaking import ABORT
from vivavoce.settings import Settings
from vivavoce.speech.service import ServiceOptions, SpeechService
from vivavoce.speech.stream import StreamLimits
from vivavoce.text import Lexicon

if TYPE_CHECKING:
    from websockets.http11 import Request

log = logging.getLogger(__name__)

CUT_OFF_S = 1
"""What uvicorn gives connections that are left when the drain is over."""

BACKLOG = 2_048
NO_LINGER = struct.pack("ii", 1, 0)


def run(settings: Settings) -> None:
    """Serve until a signal comes.

    Raises SettingsError, PlaybackError, MissingExtra and SetupError before that, and what kept
    the engine from starting: a process that can never speak should not stay.
    """
    check_bind(settings)
    check_playback(settings)
    configure_logging(settings)
    service = build_service(settings)
    with listen(settings) as listener:
        server = DrainingServer(settings, service)
        _load_certificate(server.config)
        log.info("listening", extra={"url": _url(settings, listener)})
        server.run(sockets=[listener])
    if server.failed_start is not None:
        raise server.failed_start


def build_service(settings: Settings) -> SpeechService:
    """The engine and the service around it, not started. Raises SetupError."""
    engine = create_engine(settings.engine, settings.engine_options)
    options = ServiceOptions(
        capacity=settings.capacity,
        max_waiting=settings.max_queue_depth or None,
        max_input_chars=settings.max_input_chars,
        cache_entries=settings.audio_cache_max,
        cache_bytes=settings.audio_cache_bytes,
        voice_cache_max=settings.voice_cache_max,
        voices_folder=settings.data_dir / "voices",
        max_saved_voices=settings.max_saved_voices,
        idle_timeout_s=settings.idle_timeout_s,
        normalize=settings.text_normalize,
        lexicon=Lexicon.load(settings.lexicon) if settings.lexicon else Lexicon(),
        limits=StreamLimits(settings.request_timeout_s, settings.stall_timeout_s),
    )
    return SpeechService(engine, options, PrometheusObserver())


def check_bind(settings: Settings) -> None:
    """Raise SettingsError for a public address that anybody could use without a key."""
    if settings.has_keys or settings.allow_public_without_key or is_loopback(settings.host):
        return
    raise SettingsError(
        f"Binding {settings.host} lets everybody in: set VIVAVOCE_API_KEYS, or"
        " VIVAVOCE_ALLOW_PUBLIC_WITHOUT_KEY=true if that is meant.",
        param="host",
    )


def listen(settings: Settings) -> socket.socket:
    """The bound socket. Raises SettingsError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise SettingsError(
            f"Cannot listen on {where}: {error.strerror or error}.", param="port"
        ) from error


class DrainingServer(uvicorn.Server):
    """uvicorn that finishes what it has begun."""

    def __init__(self, settings: Settings, service: SpeechService) -> None:
        app = create_app(service, settings)
        super().__init__(_config(app, settings))
        self.failed_start: VivavoceError | None = None
        app.state.on_failed_start = self._give_up
        self._context: ServerContext = app.state.context
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self._signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Remember the event loop for the signal handler; SIGHUP reads the keys again."""
        self._loop = asyncio.get_running_loop()
        reread_keys_on_hangup(self._context.ring, self._context.settings)
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; at a second signal, leave."""
        self._signals += 1
        if self._loop is None or self._signals > 1:
            self.should_exit = self.force_exit = True
            return
        log.info("draining", extra={"signal": signal.Signals(sig).name})
        self._loop.call_soon_threadsafe(self.begin_drain)

    def begin_drain(self) -> None:
        """Drain, then exit; call from the event loop."""
        self._context.service.lifecycle.drain()
        self._draining = asyncio.create_task(self._drain())

    def _give_up(self, error: Exception) -> None:
        if isinstance(error, VivavoceError):
            self.failed_start = error
        else:
            self.failed_start = SetupError(f"The engine could not start: {error}")
        self.should_exit = True

    async def _drain(self) -> None:
        in_flight = self._context.in_flight
        if not await in_flight.none(self._context.settings.drain_timeout_s):
            log.warning("cut off after the drain timeout", extra={"in_flight": in_flight.count})
        self.should_exit = True


class AbortableHttp(HttpToolsProtocol):
    """Lets a response drop its connection without flushing it."""

    def on_message_begin(self) -> None:
        """Offer ``ABORT``."""
        super().on_message_begin()
        reset = partial(_reset, self.transport)
        self.scope["extensions"] = {ABORT: reset}  # type: ignore[dict-item]

    def on_message_complete(self) -> None:
        """Note when the whole request was there."""
        self.scope["extensions"][BODY_ENDED] = time.monotonic()  # type: ignore[assignment]
        super().on_message_complete()


class AbortableWebSocket(WebSocketsSansIOProtocol):
    """Lets a socket drop its connection without flushing it."""

    def handle_connect(self, event: Request) -> None:
        """Offer ``ABORT``; the application has not begun yet."""
        super().handle_connect(event)
        if not self.close_sent:
            extensions: dict[str, object] = dict(self.scope.get("extensions") or {})
            extensions[ABORT] = partial(_reset, self.transport)
            self.scope["extensions"] = extensions  # type: ignore[typeddict-item]


def _reset(transport: asyncio.Transport) -> None:
    """Drop a connection with a TCP reset: at once, and visibly also where its end is no sign."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    transport.abort()


def _config(app: object, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=AbortableHttp,
        ws=AbortableWebSocket,
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=CUT_OFF_S,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
    )


def _load_certificate(config: uvicorn.Config) -> None:
    """Raise SettingsError for a certificate or key that cannot be used."""
    try:
        config.load()
    except OSError as error:
        raise SettingsError(f"The TLS certificate or key: {error}", param="ssl_certfile") from error


def _url(settings: Settings, listener: socket.socket) -> str:
    scheme = "https" if settings.ssl_certfile else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"
