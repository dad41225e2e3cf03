from __future__ import annotations

import sys

import httpx
import pytest

from vivavoce.errors import SetupError
from vivavoce.testing.server import ServerProcess, free_port


def file_server(port: int) -> list[str]:
    return [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]


def test_a_server_runs_until_the_block_ends() -> None:
    port = free_port()
    with ServerProcess(file_server(port), port, ready_path="/", timeout_s=30) as server:
        assert httpx.get(server.url, trust_env=False).status_code == 200
        memory = server.memory_bytes()
        assert 1_000_000 < memory["rss"] <= memory["peak"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, trust_env=False)
    with pytest.raises(SetupError):
        _ = server.pid


def test_a_server_that_ends_tells_why() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no model here')"]
    with pytest.raises(SetupError, match="no model here"):
        ServerProcess(command, free_port()).__enter__()


def test_a_server_that_never_answers_is_given_up() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    server = ServerProcess(command, free_port(), timeout_s=0.3)
    with pytest.raises(SetupError, match="not ready"):
        server.__enter__()
