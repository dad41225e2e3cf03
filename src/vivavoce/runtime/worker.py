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
import contextlib
import logging
import subprocess
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field

from vivavoce.errors import Draining, SetupError, WorkerDied
from vivavoce.runtime.worker_child import HEADER_BYTES, Bounds
from vivavoce.runtime.worker_process import (
    END_LIMIT_S,
    cause_of_death,
    command,
    environment,
    header,
    no_room,
)

log = logging.getLogger(__name__)

IDLE_S = 30.0
"""How long a worker without work stays."""

START_LIMIT_S = 60.0
PATIENCE_S = 5.0
"""How much longer than its own bound a worker may take before it is killed from here."""

_TOLD_BYTES = 2_000
_READ_LIMIT_BYTES = 1024 * 1024


@dataclass(eq=False, slots=True)
class _Worker:
    """One process and its pipes."""

    process: asyncio.subprocess.Process
    free_since_s: float = field(default_factory=time.monotonic)

    async def answer(self, request: bytes, most_bytes: int) -> bytes:
        """Raises ConnectionError or IncompleteReadError where there is none."""
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(header(request))
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
                *command(self._module, self._bounds),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
                limit=_READ_LIMIT_BYTES,
            )
        except OSError as error:  # no memory, or too many files or processes
            raise no_room(error) from error
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
            command(module, bounds),
            input=header(request) + request,
            capture_output=True,
            timeout=START_LIMIT_S + bounds.wall_s + PATIENCE_S,
            env=environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WorkerDied(cause_of_death(0, hung=True)) from error
    hello, answer = done.stdout[:HEADER_BYTES], done.stdout[HEADER_BYTES:]
    if len(hello) < HEADER_BYTES:
        told = done.stderr[-_TOLD_BYTES:].decode("utf-8", "replace")
        raise SetupError(f"A process that is needed for this does not start: {told}")
    if len(answer) < HEADER_BYTES or answer[:HEADER_BYTES] != header(answer[HEADER_BYTES:]):
        raise WorkerDied(cause_of_death(done.returncode, hung=False))
    return answer[HEADER_BYTES:]
