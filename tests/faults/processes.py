"""``vivavoce serve`` in a process of its own, to be sent signals: its log, its probes, its end."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from quality.live import clean_environment, settled

COMMAND = (sys.executable, "-c", "from vivavoce.cli.main import main; main()", "serve")
PATIENCE_S = 60.0


class ServerProcess:
    """A server that was started; wait for what you need of it."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        port: int = 0,
        environment: dict[str, str] | None = None,
        command: Sequence[str] = COMMAND,
        **settings: Any,
    ) -> None:
        chosen = {"data_dir": folder, "log_format": "json", "drain_timeout_s": 5} | settings
        sets = [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]
        self.drain_timeout_s = float(chosen["drain_timeout_s"])
        self.process = subprocess.Popen(
            [*command, "--port", str(port), *arguments, *sets],
            env=clean_environment(VIVAVOCE_ENGINE="fake") | (environment or {}),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: list[str] = []
        self._reading = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def log(self) -> str:
        """What it has written so far."""
        return "".join(self._lines)

    def logged(self, message: str) -> list[dict[str, Any]]:
        """The lines of its log with that message."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if message in line["message"]]

    @property
    def port(self) -> int:
        """Where it listens; waits for that."""
        self.until(lambda: "http://" in self.log)
        found = re.search(r"http://127.0.0.1:(\d+)", self.log)
        assert found is not None
        return int(found[1])

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something, as long as the process runs."""

        def over() -> bool:
            return bool(condition()) or self.process.poll() is not None

        settled(over, bool, PATIENCE_S)
        assert condition(), self.log

    def ready(self) -> str:
        """Its address, once it is ready."""
        url = self.url
        self.until(lambda: self.probe("/readyz") == 200)
        return url

    def probe(self, path: str) -> int:
        """The status of a path; 0 where nobody answers."""
        try:
            return httpx.get(f"{self.url}{path}", trust_env=False, timeout=PATIENCE_S).status_code
        except httpx.TransportError:
            return 0

    def speak(self, text: str, timeout_s: float = PATIENCE_S, **fields: Any) -> httpx.Response:
        """One request for PCM. Raises httpx.TransportError where it is cut off."""
        url, body = f"{self.url}/v1/audio/speech", {"input": text, "response_format": "pcm"}
        return httpx.post(url, json=body | fields, trust_env=False, timeout=timeout_s)

    def stop_reading(self) -> None:
        """Leave its standard error to fill up."""
        self._reading = False

    def send_signal(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send it; the time (monotonic) of that."""
        self.process.send_signal(number)
        return time.monotonic()

    def wait(self) -> int:
        """Its exit status."""
        status = self.process.wait(60)
        self._reader.join(PATIENCE_S)
        return status

    def end(self) -> None:
        """Make sure that it is gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.append(line)
            if not self._reading:
                return


@contextmanager
def server_process(folder: Path, *arguments: str, **settings: Any) -> Iterator[ServerProcess]:
    """Run one until left; ``arguments`` are more of the command line, keywords are settings."""
    server = ServerProcess(folder, *arguments, **settings)
    try:
        yield server
    finally:
        server.end()


def raw_connection(port: int) -> socket.socket:
    """A connection to say anything over."""
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
