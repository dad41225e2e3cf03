"""Processes that do risky work for this one, a few at a time, and may die of it.

A worker is another Python process that runs one module (``worker_child.serve``) and is spoken to
over pipes. It is started with exec, never forked from a process that has threads and a device
open; and it is no ``multiprocessing`` process, which would run the server's own main module and
leave a tracker beside it. A worker that crashes, hangs or answers nonsense costs the request that
it had and is replaced; so is one whose caller lost patience. Workers start with the first request
and end when there was none for a while.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import IO

from vivavoce.errors import Draining, SetupError, Unavailable, WorkerDied
from vivavoce.runtime.worker_child import HEADER_BYTES, OUT_OF_MEMORY, Bounds

log = logging.getLogger(__name__)

IDLE_S = 30.0
"""How long a worker without work stays."""

START_LIMIT_S = 60.0
END_LIMIT_S = 2.0
PATIENCE_S = 5.0
"""How much longer than its own bound a worker may take before it is killed from here."""

_TOLD_BYTES = 2_000
_READ_LIMIT_BYTES = 1024 * 1024

# What an interpreter needs to find itself and its libraries. A server's keys are in its environment
# too, and no business of a process that reads strangers' files.
_INHERITED = (
    "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME",
    "SYSTEMROOT", "TEMP", "TMP", "TMPDIR",
)  # fmt: skip


@dataclass(eq=False, slots=True)
class _Worker:
    """One process and its pipes."""

    process: asyncio.subprocess.Process
    free_since_s: float = field(default_factory=time.monotonic)

    async def answer(self, request: bytes, most_bytes: int) -> bytes:
        """Raises ConnectionError or IncompleteReadError where there is none."""
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(_header(request))
        stdin.write(request)
        await stdin.drain()
        return await self.read(most_bytes)

    async def read(self, most_bytes: int) -> bytes:
        """The next message."""
        stdout = self.process.stdout
        assert stdout is not None
        size = int.from_bytes(await stdout.readexactly(HEADER_BYTES), "big")
        if size > most_bytes:
            raise asyncio.IncompleteReadError(b"", size)
        return await stdout.readexactly(size)

    def kill(self) -> None:
        """At once; it may be gone already."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    async def end(self) -> None:
        """Close its input and wait until it is gone; kill it if that takes long."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(END_LIMIT_S):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()


class WorkerPool:
    """At most ``at_most`` processes that run ``module``. Use it from one event loop.

    ``started`` counts processes since the beginning, ``died`` those that ended over a request.
    """

    def __init__(
        self, module: str, bounds: Bounds, *, at_most: int = 2, idle_s: float = IDLE_S
    ) -> None:
        self.started = self.died = 0
        self._module = module
        self._bounds = bounds
        self._idle_s = idle_s
        self._permits = asyncio.Semaphore(at_most)
        self._workers: set[_Worker] = set()
        self._free: list[_Worker] = []
        self._endings: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [worker.process.pid for worker in self._workers]

    async def ask(self, request: bytes) -> bytes:
        """A worker's answer; waits for one that is free. Whoever cancels this ends the process.

        Raises WorkerDied where it crashed, hung, or needed too much memory; SetupError where none
        can be started, Unavailable where that may pass.
        """
        async with self._permits:
            worker = self._take() or await self._start()
            try:
                async with asyncio.timeout(self._bounds.wall_s + PATIENCE_S):
                    answer = await worker.answer(request, self._bounds.answer_bytes)
            except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
                hung = isinstance(error, TimeoutError)
                raise WorkerDied(await self._bury(worker, hung=hung)) from error
            except BaseException:
                self._discard(worker)
                raise
            self._give_back(worker)
            return answer

    async def close(self) -> None:
        """End every process; what still waits for an answer fails."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for worker in self._free:
            self._background(worker.end())
        for worker in self._workers.difference(self._free):
            worker.kill()
        self._free.clear()
        if self._endings:
            await asyncio.wait(self._endings, timeout=2 * END_LIMIT_S)

    async def _start(self) -> _Worker:
        if self._closed:
            raise Draining("The server is shutting down.")
        try:
            process = await asyncio.create_subprocess_exec(
                *_command(self._module, self._bounds),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                limit=_READ_LIMIT_BYTES,
            )
        except OSError as error:  # no memory, or too many files or processes
            raise _no_room(error) from error
        worker = _Worker(process)
        self._workers.add(worker)
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await worker.read(0)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
            self._discard(worker)
            raise await self._not_started(worker) from error
        except BaseException:
            self._discard(worker)
            raise
        self.started += 1
        return worker

    async def _not_started(self, worker: _Worker) -> SetupError:
        assert worker.process.stderr is not None
        told = await worker.process.stderr.read(_TOLD_BYTES)
        log.error(
            "a worker process does not start",
            extra={"worker": self._module, "why": told.decode("utf-8", "replace")},
        )
        return SetupError("A process that is needed for this does not start; the log says why.")

    def _take(self) -> _Worker | None:
        while self._free:
            worker = self._free.pop()
            if worker.process.returncode is None:
                return worker
            self._discard(worker)
        return None

    def _give_back(self, worker: _Worker) -> None:
        if self._closed:
            self._discard(worker)
            return
        worker.free_since_s = time.monotonic()
        self._free.append(worker)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._idle_s, self._end_idle)

    def _end_idle(self) -> None:
        self._timer = None
        now_s = time.monotonic()
        idle = [each for each in self._free if now_s - each.free_since_s >= self._idle_s]
        self._free = [each for each in self._free if each not in idle]
        for worker in idle:
            self._workers.discard(worker)
            self._background(worker.end())
        if self._free:
            next_s = min(each.free_since_s for each in self._free) + self._idle_s - now_s
            self._timer = asyncio.get_running_loop().call_later(next_s, self._end_idle)

    def _discard(self, worker: _Worker) -> None:
        """Kill it and reap it, which nobody waits for."""
        worker.kill()
        self._workers.discard(worker)
        self._background(worker.end())

    async def _bury(self, worker: _Worker, *, hung: bool) -> str:
        """What ended a worker that died of its request."""
        self._workers.discard(worker)
        if hung:
            worker.kill()  # one that died by itself tells why, if it is let
        await worker.end()
        self.died += 1
        status = worker.process.returncode or 0
        log.warning("a worker process died", extra={"worker": self._module, "status": status})
        return cause_of_death(status, hung=hung)

    def _background(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)


def ask_once(module: str, bounds: Bounds, request: bytes) -> bytes:
    """One request to a process of its own, without an event loop; blocks.

    Raises WorkerDied and SetupError as ``WorkerPool.ask``.
    """
    try:
        done = subprocess.run(
            _command(module, bounds),
            input=_header(request) + request,
            capture_output=True,
            timeout=START_LIMIT_S + bounds.wall_s + PATIENCE_S,
            env=_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WorkerDied(cause_of_death(0, hung=True)) from error
    hello, answer = done.stdout[:HEADER_BYTES], done.stdout[HEADER_BYTES:]
    if len(hello) < HEADER_BYTES:
        told = done.stderr[-_TOLD_BYTES:].decode("utf-8", "replace")
        raise SetupError(f"A process that is needed for this does not start: {told}")
    if len(answer) < HEADER_BYTES or answer[:HEADER_BYTES] != _header(answer[HEADER_BYTES:]):
        raise WorkerDied(cause_of_death(done.returncode, hung=False))
    return answer[HEADER_BYTES:]


class ResidentWorker:
    """One process that runs ``module`` until this one ends; for short requests, from any thread.

    It is started with the first request, or before by ``start``, and again after it died.
    ``started`` counts processes since the beginning.
    """

    def __init__(self, module: str, bounds: Bounds) -> None:
        self.started = 0
        self._module = module
        self._bounds = bounds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._greeted = self._has_worked = False
        atexit.register(self.close)

    def start(self) -> None:
        """Begin to start the process, and do not wait for it. Raises Unavailable."""
        with self._lock:
            self._running()

    def ask(self, request: bytes) -> bytes:
        """The answer; blocks, while others ask, too.

        Raises WorkerDied where the process crashed or took too long over it, SetupError where none
        can be started, Unavailable where that may pass.
        """
        with self._lock:
            process = self._running()
            assert process.stdin is not None and process.stdout is not None
            self._hear_greeting(process.stdout)
            try:
                process.stdin.write(_header(request) + request)
                process.stdin.flush()
                size = int.from_bytes(_exactly(process.stdout, HEADER_BYTES), "big")
                if size > self._bounds.answer_bytes:
                    process.kill()
                    raise EOFError
                return _exactly(process.stdout, size)
            except (OSError, EOFError) as error:
                raise WorkerDied(self._bury()) from error
            except BaseException:
                process.kill()  # its next answer would be the one to this request
                self._bury()
                raise

    def close(self) -> None:
        """End the process; a later request starts another. One that is busy is killed."""
        if not self._lock.acquire(timeout=END_LIMIT_S):
            if (busy := self._process) is not None:
                busy.kill()  # whoever waits for it is told, and lets go
            self._lock.acquire()
        try:
            if self._process is not None:
                self._bury()
        finally:
            self._lock.release()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        if self._process is not None:
            self._bury()
        try:
            self._process = process = subprocess.Popen(
                _command(self._module, self._bounds),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
            )
        except OSError as error:
            raise _no_room(error) from error
        self.started += 1
        self._greeted = False
        return process

    def _hear_greeting(self, stdout: IO[bytes]) -> None:
        if self._greeted:
            return
        try:
            _exactly(stdout, HEADER_BYTES)
        except EOFError as error:
            self._bury()
            if self._has_worked:
                raise WorkerDied("the process was ended while it started") from error
            raise SetupError(f"The process {self._module} does not start.") from error
        self._greeted = self._has_worked = True

    def _bury(self) -> str:
        """End the process, if it lives, and say what ended it."""
        process, self._process = self._process, None
        assert process is not None and process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.stdout.close()
        try:
            status = process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        return cause_of_death(status, hung=False)


def _no_room(error: OSError) -> Unavailable:
    """What is said where a process cannot be started for now."""
    log.warning("a worker process cannot be started", extra={"why": error.strerror})
    return Unavailable("A process that is needed for this cannot start now.")


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """Raises EOFError where there is less."""
    found = stream.read(size)
    if len(found) < size:
        raise EOFError
    return found


def cause_of_death(status: int, *, hung: bool) -> str:
    """Why a process with this exit status (negative: the signal's number) is no more."""
    timers = [getattr(signal, name, None) for name in ("SIGALRM", "SIGXCPU")]
    if hung or -status in timers:
        return "it took too long"
    if status == OUT_OF_MEMORY:
        return "it needed too much memory"
    return "the process that did it crashed"


def _header(message: bytes) -> bytes:
    return len(message).to_bytes(HEADER_BYTES, "big")


def _command(module: str, bounds: Bounds) -> list[str]:
    # -P: modules are not looked for in the folder in which the server happens to run.
    return [sys.executable, "-P", "-m", module, *bounds.as_arguments()]


def _environment() -> dict[str, str]:
    """The same packages, one thread, one heap, and no secrets."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
    }
