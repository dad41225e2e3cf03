"""The process: settings to a running server, and its end without cutting anybody off.

On the first SIGTERM or SIGINT the server stops being ready, refuses new speech with 503, lets
what runs finish (at most ``drain_timeout_s``), and exits 0. uvicorn alone would close every
WebSocket with 1012 the moment the signal comes. A second signal ends it at once. Whatever hangs,
the process is gone ``drain_timeout_s`` + 5 s after the first (``watchdog.py``).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from functools import partial
from types import FrameType

import uvicorn

from vivavoce.engines.registry import create_engine
from vivavoce.engines.watch import TimeLimits
from vivavoce.errors import EngineFailed, SetupError, VivavoceError
from vivavoce.serving.app import create_app
from vivavoce.serving.connections import ConnectionLimits, Connections, connections_that_fit
from vivavoce.serving.context import ServerContext
from vivavoce.serving.http_connection import HttpConnection
from vivavoce.serving.logs import configure_logging, flush_logs
from vivavoce.serving.loudspeaker import check_playback
from vivavoce.serving.metrics import PrometheusObserver
from vivavoce.serving.rereading import reread_keys_on_hangup
from vivavoce.serving.supervisor import SupervisorLink, backlog, check_bind, listen
from vivavoce.serving.tls import Handshake, TlsListener, tls_context
from vivavoce.serving.watchdog import SOFTWARE_FAILURE, WELL, Watchdog
from vivavoce.serving.websocket_connection import WebSocketConnection
from vivavoce.settings import Settings
from vivavoce.settings_faults import moved_variables
from vivavoce.speech.service import ServiceOptions, SpeechService
from vivavoce.speech.stream import StreamLimits
from vivavoce.speech.voice_folder import recordings_folders
from vivavoce.text import Lexicon

log = logging.getLogger(__name__)

CUT_OFF_S = 1
"""What uvicorn gives connections that are left when the drain is over."""

LAST_CALLERS_S = 0.1
"""Connections that were just accepted are given time to ask, and are told 503: uvicorn would close
them without a word."""

GRACE_S = 4.5
"""After ``drain_timeout_s``, how long the rest of the way out may take."""

FORCED_S = 2.0
"""The same after a second signal."""

LEFT_BEHIND_S = 2.0
"""How long threads that were left behind may keep the interpreter from ending."""

SWEEP_TICKS = 5
"""uvicorn ticks every 0.1 s; connections are looked at every half second."""


def run(settings: Settings, supervisor: SupervisorLink | None = None) -> None:
    """Serve until a signal comes. Call it last: it ends the process where that hangs.

    ``supervisor`` has the listening socket where the server runs under one. Raises SettingsError,
    PlaybackError, MissingExtra and SetupError before that, and what kept the engine from starting:
    a process that can never speak should not stay. Raises EngineFailed where the engine failed for
    good later, with ``exit_on_failure``.
    """
    check_bind(settings)
    check_playback(settings)
    configure_logging(settings)
    for words in moved_variables():
        log.warning("%s", words)
    service = build_service(settings, own_process=True)
    limit_s = settings.max_step_s if settings.exit_on_failure else None
    watchdog = Watchdog(limit_s, supervisor)
    with listen(settings) if supervisor is None else supervisor.listener as listener:
        server = DrainingServer(settings, service, watchdog, supervisor)
        most = server.connections.limits.max_connections
        if most < settings.max_connections:
            extra = {"max_connections": most, "wanted": settings.max_connections}
            log.warning("the limit on open files allows fewer connections", extra=extra)
        log.info("listening", extra={"url": _url(settings, listener)})
        watchdog.start()
        server.run(sockets=[listener])
    error = server.failed_start or server.failed
    watchdog.end_within(LEFT_BEHIND_S, WELL if error is None else error.exit_status)
    flush_logs()
    if error is not None:
        raise error


def build_service(settings: Settings, *, own_process: bool = False) -> SpeechService:
    """The engine and the service around it, not started. Raises SetupError.

    ``own_process``: this process serves and does nothing else (see ``Lifecycle``).
    """
    engine = create_engine(settings.engine, settings.engine_options, settings.shared_options)
    options = ServiceOptions(
        capacity=settings.capacity,
        max_waiting=settings.max_queue_depth or None,
        max_input_chars=settings.max_input_chars,
        cache_entries=settings.audio_cache_max,
        cache_bytes=settings.audio_cache_bytes,
        voice_cache_max=settings.voice_cache_max,
        voices_folder=settings.data_dir / "voices",
        recordings_folders=recordings_folders(settings.data_dir, settings.engine_options),
        max_saved_voices=settings.max_saved_voices,
        idle_timeout_s=settings.idle_timeout_s,
        normalize=settings.text_normalize,
        lexicon=Lexicon.load(settings.lexicon) if settings.lexicon else Lexicon(),
        limits=StreamLimits(settings.request_timeout_s, settings.stall_timeout_s),
        engine_limits=TimeLimits(
            settings.max_step_s, settings.max_load_s, settings.max_unload_s, settings.max_clone_s
        ),
        own_process=own_process,
    )
    return SpeechService(engine, options, PrometheusObserver())


class DrainingServer(uvicorn.Server):
    """uvicorn that finishes what it has begun.

    ``failed_start`` is why the engine could not start, ``failed`` why it was given up later.
    Without a watchdog (in tests, or embedded) nothing ends the process by force.
    """

    def __init__(
        self,
        settings: Settings,
        service: SpeechService,
        watchdog: Watchdog | None = None,
        supervisor: SupervisorLink | None = None,
    ) -> None:
        app = create_app(service, settings)
        self.connections = Connections(_connection_limits(settings))
        self._tls = tls_context(settings)
        self._tls_listener: TlsListener | None = None
        super().__init__(_config(app, settings, self.connections))
        self.failed_start: VivavoceError | None = None
        self.failed: EngineFailed | None = None
        app.state.on_failed_start = self._give_up
        self._context: ServerContext = app.state.context
        self._watchdog = watchdog
        self._supervisor = supervisor
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self._signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Remember the event loop for the signal handler, read keys again at SIGHUP, and say that
        connections are taken.
        """
        self._loop = asyncio.get_running_loop()
        reread_keys_on_hangup(self._context.ring, self._context.settings)
        if self._tls is None:
            await super().startup(sockets)
        else:
            await super().startup([])
            self._tls_listener = TlsListener(
                sockets or [], self._tls, self.connections, self._make_secure
            )
        if self._supervisor is not None:
            self._supervisor.accepting()

    def _make_secure(self, handshake: Handshake) -> HttpConnection:
        return HttpConnection(
            self.config,
            self.server_state,
            self.lifespan.state,
            connections=self.connections,
            predecessor=handshake,
        )

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: the event loop lives; an engine that failed for good is noticed.

        Connections are looked at now and then.
        """
        if self._watchdog is not None:
            self._watchdog.beat()
        if counter % SWEEP_TICKS == 0:
            self.connections.sweep(asyncio.get_running_loop().time())
        failure = self._context.service.lifecycle.loop.failure
        ending = self.should_exit or self._draining is not None
        if failure is not None and not ending and self._context.settings.exit_on_failure:
            log.error("the process ends: %s", failure.message)
            self.failed = failure
            self.begin_drain()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; at a second signal, leave."""
        self._signals += 1
        if self._loop is None or self._signals > 1:
            self.should_exit = self.force_exit = True
            self._end_within(FORCED_S, WELL)
            return
        self._end_within(self._context.settings.drain_timeout_s + GRACE_S, SOFTWARE_FAILURE)
        log.info("draining", extra={"signal": signal.Signals(sig).name})
        self._loop.call_soon_threadsafe(self.begin_drain)

    def begin_drain(self) -> None:
        """Drain, then exit; call from the event loop."""
        if self._draining is None:
            self._context.service.lifecycle.drain()
            self._end_within(self._context.settings.drain_timeout_s + GRACE_S, SOFTWARE_FAILURE)
            self._draining = asyncio.create_task(self._drain())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, answer who came last, cut what is left, end the service."""
        if self._tls_listener is not None:
            self._tls_listener.close()
        if self._watchdog is not None:
            self._watchdog.rest()
        for server in self.servers:
            server.close()
        if self._supervisor is not None:
            self._supervisor.closing()
        await asyncio.sleep(LAST_CALLERS_S)
        await super().shutdown(sockets)

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
        self._end_within(GRACE_S, WELL if self.failed is None else SOFTWARE_FAILURE)
        self.should_exit = True

    def _end_within(self, seconds: float, status: int) -> None:
        if self._watchdog is not None:
            self._watchdog.end_within(seconds, status)


def _connection_limits(settings: Settings) -> ConnectionLimits:
    return ConnectionLimits(
        connections_that_fit(settings.max_connections),
        settings.head_timeout_s,
        settings.min_body_rate_bytes_s,
        settings.stall_timeout_s,
        settings.request_timeout_s,
    )


def _config(app: object, settings: Settings, connections: Connections) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=partial(HttpConnection, connections=connections),  # type: ignore[arg-type]
        ws=partial(WebSocketConnection, connections=connections),  # type: ignore[arg-type]
        backlog=backlog(settings),
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=CUT_OFF_S,
    )


def _url(settings: Settings, listener: socket.socket) -> str:
    scheme = "https" if settings.ssl_certfile else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"
