"""``vivavoce serve --supervise``: a process that starts the server again when it has failed.

The supervisor owns the listening socket; the server, a process of its own, accepts connections
from it. While no server accepts, the supervisor does, and answers every request at once with 503
and ``Retry-After`` (``stand_in.py``). It holds neither an engine nor a model.

Over a pipe the server sends one byte at a time: ``+`` it accepts connections, ``.`` it is alive,
``-`` it accepts no more. A server that stays silent for too long is killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from vivavoce.errors import SettingsError, SetupError
from vivavoce.serving.connections import connections_that_fit
from vivavoce.serving.logs import configure_logging
from vivavoce.serving.origins import is_loopback
from vivavoce.serving.stand_in import StandIn
from vivavoce.settings import Settings

log = logging.getLogger(__name__)

HANGUP = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []

ACCEPTING, ALIVE, CLOSING = b"+", b".", b"-"

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Between two starts; none before the first restart, and twice as long with each that follows."""

STABLE_S = 60.0
"""A server that accepted connections for so long starts the count of failures anew."""

START_S = 2.0
"""What callers are told a start takes, on top of the pause."""

SILENCE_S = 5.0
"""On top of twice ``max_step_s``, when the server should have ended itself: how long it may stay
silent."""

EXIT_S = 6.0
"""After ``drain_timeout_s``, when a server that was told to end is killed."""


class SupervisorLink:
    """The server's side: the listening socket, and the pipe for signs of life."""

    def __init__(self, listener: socket.socket, pipe: int) -> None:
        self.listener = listener
        self._pipe = pipe

    @classmethod
    def inherited(cls, descriptors: str) -> SupervisorLink:
        """From what the command line has: the numbers of both descriptors, with a comma."""
        socket_fd, pipe_fd = (int(number) for number in descriptors.split(","))
        os.set_inheritable(socket_fd, False)
        os.set_inheritable(pipe_fd, False)
        os.set_blocking(pipe_fd, False)
        return cls(socket.socket(fileno=socket_fd), pipe_fd)

    def accepting(self) -> None:
        """Connections are taken from now on."""
        self._send(ACCEPTING)

    def closing(self) -> None:
        """No more connections are taken."""
        self._send(CLOSING)

    def alive(self) -> bool:
        """A sign of life; False where the supervisor is gone."""
        return self._send(ALIVE)

    def _send(self, sign: bytes) -> bool:
        try:
            os.write(self._pipe, sign)
        except BlockingIOError:
            return True  # it has enough of them to read
        except OSError:
            return False
        return True


@dataclass(slots=True)
class _Child:
    """A server process: when it began to accept, and whether it is about to end."""

    process: asyncio.subprocess.Process
    signs: asyncio.StreamReader
    transport: asyncio.ReadTransport
    accepting_since_s: float | None = None
    killed: bool = False

    @property
    def stable(self) -> bool:
        since_s = self.accepting_since_s
        return since_s is not None and time.monotonic() - since_s >= STABLE_S


class Supervisor:
    """Runs ``command`` until it ends well, or this process is told to end."""

    def __init__(self, settings: Settings, command: Sequence[str], listener: socket.socket) -> None:
        self._settings = settings
        self._command = tuple(command)
        self._listener = listener
        self._stand_in = StandIn(listener, _tls(settings))
        self._child: _Child | None = None
        self._stop: signal.Signals | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """The exit status of the whole."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        if self._settings.config_file is None:
            loop.add_signal_handler(signal.SIGHUP, self._end, signal.SIGHUP)
        else:
            loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANGUP)  # see ``cli/hangups.py``
        starts = failures = 0
        while True:
            await self._stand_in.open(START_S)
            status, child = await self._run_child()
            starts += 1
            if self._stop is not None:
                ended_by_it = status == -self._stop and self._stop is not signal.SIGHUP
                return 0 if ended_by_it else _shell(status)
            if status == 0 or (starts == 1 and status == SetupError.exit_status):
                return status  # it was told to end; or it can never speak, and has said why
            failures = 1 if child.stable else failures + 1
            pause_s = pause_before(failures)
            await self._stand_in.open(pause_s + START_S)
            log.error("the server ended", extra={"status": status, "again_in_s": pause_s})
            if await self._stopped_within(pause_s):
                return 0

    async def _run_child(self) -> tuple[int, _Child]:
        child = self._child = await self._start()
        following = asyncio.create_task(self._follow(child))
        try:
            status = await child.process.wait()
        finally:
            following.cancel()
            child.transport.close()
            self._child = None
        return status, child

    async def _start(self) -> _Child:
        reading, writing = os.pipe()
        descriptors = (self._listener.fileno(), writing)
        try:
            with self._hangups_held_back():
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    "--supervised",
                    ",".join(map(str, descriptors)),
                    pass_fds=descriptors,
                    process_group=0,  # Ctrl-C is for the supervisor, which passes it on
                )
        finally:
            os.close(writing)
        loop, signs = asyncio.get_running_loop(), asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(signs), os.fdopen(reading, "rb", 0)
        )
        if self._stop is not None:
            process.send_signal(self._stop)
        return _Child(process, signs, transport)

    @contextmanager
    def _hangups_held_back(self) -> Iterator[None]:
        """A server that is started in here is born with SIGHUP blocked: until it can read its keys
        again, the signal waits. Without a file it would wait for ever.
        """
        if self._settings.config_file is None:
            yield
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HANGUP)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    async def _follow(self, child: _Child) -> None:
        """Read the signs of life; kill a server that gives none."""
        silence_s = 2 * self._settings.max_step_s + SILENCE_S
        limit_s: float = self._settings.max_load_s  # until it has begun
        try:
            while signs := await asyncio.wait_for(child.signs.read(64), limit_s):
                limit_s = silence_s
                for sign in signs:
                    await self._heed(child, bytes([sign]))
        except TimeoutError:
            log.error("the server gives no sign of life and is killed", extra={"after_s": limit_s})
            child.process.kill()

    async def _heed(self, child: _Child, sign: bytes) -> None:
        if sign == ACCEPTING:
            child.accepting_since_s = time.monotonic()
            self._stand_in.close()
        elif sign == CLOSING and self._stop is None:
            await self._stand_in.open(START_S)

    def _end(self, number: signal.Signals) -> None:
        """Let the server drain, and end with it."""
        self._stop = self._stop or number
        self._stopping.set()
        self._pass_on(number)
        loop = asyncio.get_running_loop()
        loop.call_later(self._settings.drain_timeout_s + EXIT_S, self._kill)

    def _pass_on(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.process.returncode is None:
            self._child.process.send_signal(number)

    def _kill(self) -> None:
        if self._child is not None and self._child.process.returncode is None:
            log.error("the server did not end and is killed")
            self._child.process.kill()

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True


def supervise(settings: Settings, command: Sequence[str]) -> int:
    """Run ``command`` under supervision; the exit status of the whole.

    Raises SettingsError for an address or a certificate that cannot be used, and on Windows, where
    a process does not inherit sockets as this needs it.
    """
    if not hasattr(signal, "SIGHUP"):
        raise SettingsError(
            "--supervise needs Linux or macOS. On Windows, let a service manager start the server "
            "again, with exit_on_failure=true.",
            param="supervise",
        )
    check_bind(settings)
    configure_logging(settings)

    async def run() -> int:
        with listen(settings) as listener:
            return await Supervisor(settings, command, listener).run()

    return asyncio.run(run())


def pause_before(failures: int) -> float:
    """Seconds before a start after so many failures in a row."""
    return 0.0 if failures <= 1 else min(FIRST_PAUSE_S * 2 ** (failures - 2), LONGEST_PAUSE_S)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.ssl_certfile is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile)
    except OSError as error:
        raise SettingsError(f"The TLS certificate or key: {error}", param="ssl_certfile") from error
    return context


def _shell(status: int) -> int:
    """An exit status as a shell tells it: 128 and the signal's number for a process it killed."""
    return status if status >= 0 else 128 - status


MAX_BACKLOG = 2_048


def check_bind(settings: Settings) -> None:
    """Raise SettingsError for a public address that anybody could use without a key."""
    if settings.has_keys or settings.allow_public_without_key or is_loopback(settings.host):
        return
    raise SettingsError(
        f"Binding {settings.host} lets everybody in: set VIVAVOCE_API_KEYS, or"
        " VIVAVOCE_ALLOW_PUBLIC_WITHOUT_KEY=true if that is meant.",
        param="host",
    )


def backlog(settings: Settings) -> int:
    """Connections that may wait to be accepted.

    All of them are accepted in one go, before any is counted, so together with those that are
    counted already they must not take every file that the process may open.
    """
    return min(MAX_BACKLOG, connections_that_fit(settings.max_connections))


def listen(settings: Settings) -> socket.socket:
    """The bound socket. Raises SettingsError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server(
            (settings.host, settings.port), family=family, backlog=backlog(settings)
        )
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise SettingsError(
            f"Cannot listen on {where}: {error.strerror or error}.", param="port"
        ) from error
