"""The process: settings to a running server, and its end without cutting anybody off.

On the first SIGTERM or SIGINT the server stops being ready, refuses new speech with 503, lets
what runs finish (at most ``drain_timeout_s``), and exits 0. uvicorn alone would close every
WebSocket with 1012 the moment the signal comes. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import time
from functools import partial
from types import FrameType

import uvicorn

from vivavoce.engines.registry import create_engine
from vivavoce.errors import SettingsError, SetupError, VivavoceError
from vivavoce.serving.app import create_app
from vivavoce.serving.connections import ConnectionLimits, Connections, connections_that_fit
from vivavoce.serving.context import ServerContext
from vivavoce.serving.http_connection import HttpConnection
from vivavoce.serving.logs import configure_logging
from vivavoce.serving.metrics import PrometheusObserver
from vivavoce.serving.playing import check_playback
from vivavoce.serving.tls import Handshake, TlsListener, tls_context
from vivavoce.serving.websocket_connection import WebSocketConnection
from vivavoce.settings import Settings
from vivavoce.speech.service import ServiceOptions, SpeechService
from vivavoce.speech.stream import StreamLimits
from vivavoce.text import Lexicon

log = logging.getLogger(__name__)

CUT_OFF_S = 1
"""What uvicorn gives connections that are left when the drain is over."""

MAX_BACKLOG = 2_048
SWEEP_TICKS = 5
"""uvicorn ticks every 0.1 s; connections are looked at every half second."""


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
        most = server.connections.limits.max_connections
        if most < settings.max_connections:
            extra = {"max_connections": most, "wanted": settings.max_connections}
            log.warning("the limit on open files allows fewer connections", extra=extra)
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
        idle_timeout_s=settings.idle_timeout_s,
        normalize=settings.text_normalize,
        lexicon=Lexicon.load(settings.lexicon) if settings.lexicon else Lexicon(),
        limits=StreamLimits(settings.request_timeout_s, settings.stall_timeout_s),
    )
    return SpeechService(engine, options, PrometheusObserver())


def check_bind(settings: Settings) -> None:
    """Raise SettingsError for a public address that anybody could use without a key."""
    if settings.api_keys or settings.allow_public_without_key or _is_loopback(settings.host):
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
        return socket.create_server(
            (settings.host, settings.port), family=family, backlog=_backlog(settings)
        )
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise SettingsError(
            f"Cannot listen on {where}: {error.strerror or error}.", param="port"
        ) from error


class DrainingServer(uvicorn.Server):
    """uvicorn that finishes what it has begun."""

    def __init__(self, settings: Settings, service: SpeechService) -> None:
        app = create_app(service, settings)
        self.connections = Connections(_connection_limits(settings))
        self._tls = tls_context(settings)
        self._tls_listener: TlsListener | None = None
        super().__init__(_config(app, settings, self.connections))
        self.failed_start: VivavoceError | None = None
        app.state.on_failed_start = self._give_up
        self._context: ServerContext = app.state.context
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self._signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Remember the event loop for the signal handler, and listen."""
        self._loop = asyncio.get_running_loop()
        if self._tls is None:
            await super().startup(sockets)
            return
        await super().startup([])
        self._tls_listener = TlsListener(
            sockets or [], self._tls, self.connections, self._make_secure
        )

    def _make_secure(self, handshake: Handshake) -> HttpConnection:
        return HttpConnection(
            self.config,
            self.server_state,
            self.lifespan.state,
            connections=self.connections,
            predecessor=handshake,
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and close."""
        if self._tls_listener is not None:
            self._tls_listener.close()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Look at the connections now and then."""
        if counter % SWEEP_TICKS == 0:
            self.connections.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

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
        end_s = time.monotonic() + self._context.settings.drain_timeout_s
        if not await in_flight.none(self._context.settings.drain_timeout_s):
            log.warning("cut off after the drain timeout", extra={"in_flight": in_flight.count})
        await self.connections.flushed(end_s - time.monotonic())
        self.should_exit = True


def _connection_limits(settings: Settings) -> ConnectionLimits:
    return ConnectionLimits(
        connections_that_fit(settings.max_connections),
        settings.head_timeout_s,
        settings.min_body_rate_bytes_s,
        settings.stall_timeout_s,
    )


def _backlog(settings: Settings) -> int:
    """Connections that may wait to be accepted.

    All of them are accepted in one go, before any is counted, so together with those that are
    counted already they must not take every file that the process may open.
    """
    return min(MAX_BACKLOG, connections_that_fit(settings.max_connections))


def _config(app: object, settings: Settings, connections: Connections) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=partial(HttpConnection, connections=connections),  # type: ignore[arg-type]
        ws=partial(WebSocketConnection, connections=connections),  # type: ignore[arg-type]
        backlog=_backlog(settings),
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=CUT_OFF_S,
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _url(settings: Settings, listener: socket.socket) -> str:
    scheme = "https" if settings.ssl_certfile else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"
