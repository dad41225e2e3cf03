"""A real server for tests: the command ``vivavoce serve`` in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

T = TypeVar("T")

START_LIMIT_S = 60.0
SETTLE_S = 60.0
STOP_LIMIT_S = 20.0
COMMAND = (sys.executable, "-c", "from vivavoce.cli.main import main; main()")


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A server that is ready."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, **how: Any) -> httpx.Client:
        """A client of this server; close it."""
        return httpx.Client(base_url=self.url, **({"timeout": 60.0, "trust_env": False} | how))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        with self.client() as client:
            return metric(client.get("/metrics").text, name, **labels)

    def log_lines(self) -> list[str]:
        """The lines of its log so far; one that is still being written is not among them."""
        if not self.log.exists():
            return []
        return [
            line for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")
        ]

    def logged(self, words: str = "") -> list[dict[str, Any]]:
        """The records of its JSON log whose message has these words in it."""
        records = [json.loads(line) for line in self.log_lines() if line.startswith("{")]
        return [record for record in records if words in record["message"]]


def metric(exposition: str, name: str, **labels: str) -> float:
    """The sum of the samples of that exact name with these labels, in Prometheus' text format."""
    from prometheus_client.parser import text_string_to_metric_families

    return sum(
        sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without settings that would leak into the server."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("VIVAVOCE_") or name == "VIVAVOCE_CACHE_DIR"
    }
    return kept | {"PYTHONUNBUFFERED": "1"} | more


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(
    engine: str = "fake",
    settings: Mapping[str, Any] | None = None,
    command: Sequence[str] = COMMAND,
    *,
    open_files: int = 0,
) -> Iterator[LiveServer]:
    """Run ``vivavoce serve`` until left; ``settings`` are ``--set`` names and values.

    ``command`` is what stands before ``serve``; ``open_files`` is what ``ulimit -n`` says in the
    server's shell, 0 leaves it as it is here.
    """
    with tempfile.TemporaryDirectory(prefix="vivavoce-test-") as folder:
        log, port = Path(folder) / "server.log", free_port()
        chosen = {"data_dir": folder, **(settings or {})}
        sets = [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]
        shell = ["sh", "-c", f'ulimit -n {open_files}; exec "$0" "$@"'] if open_files else []
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*shell, *command, "serve", "--engine", engine, "--port", str(port), *sets],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=clean_environment(),
            )
        server = LiveServer(port, process, log)
        try:
            _await_ready(server)
            yield server
        finally:
            _stop(process)


def _await_ready(server: LiveServer) -> None:
    end_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end_s:
        if server.process.poll() is not None:
            break
        try:
            if httpx.get(f"{server.url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"the server did not become ready:\n{server.log.read_text()[-4000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def settled(look: Callable[[], T], good: Callable[[T], bool], limit_s: float = SETTLE_S) -> T:
    """Look until it is good, and return what was seen last: the caller asserts on it."""
    end_s = time.monotonic() + limit_s
    seen = look()
    while not good(seen) and time.monotonic() < end_s:
        time.sleep(0.05)
        seen = look()
    return seen
