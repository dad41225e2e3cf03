"""A server started for a measurement, in a process of its own."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import httpx

from vivavoce.errors import SetupError

_POLL_S = 0.1
_STOP_S = 15.0
_LOG_TAIL_BYTES = 2000


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """Runs a command until ``ready_path`` answers with a status below 400; stops it on exit.

    ``environment`` comes on top of this process's own. Raises SetupError if the server ends or
    does not answer in ``timeout_s``; the end of its log is in the message.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        *,
        ready_path: str = "/readyz",
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = list(command)
        self._ready_url = self.url + ready_path
        self._environment = {**os.environ, **(environment or {})}
        self._timeout_s = timeout_s
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's id. Raises SetupError if it does not run."""
        if self._process is None:
            raise SetupError("The server was not started.")
        return self._process.pid

    def __enter__(self) -> ServerProcess:
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=self._log, stderr=subprocess.STDOUT
        )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask it to end, and end it if it does not. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._log is not None:
            self._log.close()
            self._log = None

    def memory_bytes(self) -> dict[str, int]:
        """Resident memory now (``rss``) and at most (``peak``), from Linux's procfs."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return {
            name: int(match.group(1)) * 1024
            for name, field in (("rss", "VmRSS"), ("peak", "VmHWM"))
            if (match := re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE))
        }

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline_s = time.monotonic() + self._timeout_s
        with httpx.Client(trust_env=False, timeout=5.0) as client:
            while time.monotonic() < deadline_s:
                if process.poll() is not None:
                    raise SetupError(f"The server ended: {self._log_tail()}")
                if _answers(client, self._ready_url):
                    return
                time.sleep(_POLL_S)
        raise SetupError(f"The server was not ready in {self._timeout_s:g} s: {self._log_tail()}")

    def _log_tail(self) -> str:
        if self._log is None:
            return ""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_TAIL_BYTES))
        return self._log.read().decode(errors="replace").strip()


def vivavoce_server(
    *arguments: str, environment: Mapping[str, str] | None = None, timeout_s: float = 120.0
) -> ServerProcess:
    """``vivavoce serve`` with these arguments, by this interpreter, on a free port."""
    port = free_port()
    start = "from vivavoce.cli.main import main; main()"
    command = [sys.executable, "-c", start, "serve", "--port", str(port), *arguments]
    return ServerProcess(command, port, environment=environment, timeout_s=timeout_s)


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code < httpx.codes.BAD_REQUEST
    except httpx.HTTPError:
        return False
