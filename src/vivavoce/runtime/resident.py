"""One process that does risky work for as long as this one runs, a request at a time."""

from __future__ import annotations

import atexit
import contextlib
import subprocess
import threading
from typing import IO

from vivavoce.errors import SetupError, WorkerDied
from vivavoce.runtime.worker_child import HEADER_BYTES, Bounds
from vivavoce.runtime.worker_process import (
    END_LIMIT_S,
    cause_of_death,
    command,
    environment,
    header,
    no_room,
)


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
                process.stdin.write(header(request) + request)
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
                command(self._module, self._bounds),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment(),
            )
        except OSError as error:
            raise no_room(error) from error
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


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """Raises EOFError where there is less."""
    found = stream.read(size)
    if len(found) < size:
        raise EOFError
    return found
