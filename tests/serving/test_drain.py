"""SIGTERM in a process of its own: what runs finishes, what comes is refused, exit 0."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from tests.serving.conftest import PATIENCE_S, hear, settle
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PROGRAM = """
import sys
from vivavoce.errors import VivavoceError
from vivavoce.serving.server import run
from vivavoce.settings import load_settings
try:
    run(load_settings())
except VivavoceError as error:
    sys.exit(f"error: {error}")
"""
TEXT = "one two three four five"


class Process:
    def __init__(self, folder: str, **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if "VIVAVOCE" not in name}
        settings = {
            "VIVAVOCE_ENGINE": "fake",
            "VIVAVOCE_PORT": "0",
            "VIVAVOCE_DATA_DIR": folder,
            "VIVAVOCE_FAKE": json.dumps({"paced": True}),
            "VIVAVOCE_LOG_FORMAT": "json",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=clean | settings | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines += []
        for line in self.process.stderr:
            self.lines.append(line)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def address(self) -> str:
        assert settle(lambda: "http://" in self.log or self.process.poll() is not None)
        found = re.search(r"http://([0-9.]+:\d+)", self.log)
        assert found is not None, self.log
        return found.group(1)

    def ready(self) -> str:
        address = self.address()
        assert settle(lambda: _status(address, "/readyz") == 200)
        return address

    def wait(self) -> int:
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code


def _status(address: str, path: str) -> int:
    try:
        return httpx.get(f"http://{address}{path}", trust_env=False).status_code
    except httpx.TransportError:
        return 0


@pytest.fixture
def launch(tmp_path) -> Iterator[type[Process]]:
    started: list[Process] = []

    def start(**environment: str) -> Process:
        process = Process(str(tmp_path), **environment)
        started.append(process)
        return process

    yield start  # type: ignore[misc]
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.wait()
        assert each.process.stderr is not None
        each.process.stderr.close()


def test_running_streams_finish_and_new_ones_are_refused(launch) -> None:
    server = launch()
    address = server.ready()
    base = f"http://{address}"
    body = {"input": TEXT, "response_format": "pcm"}
    with (
        connect(f"ws://{address}/v1/audio/speech/ws", proxy=None) as idle,
        connect(f"ws://{address}/v1/audio/speech/ws", proxy=None) as connection,
        httpx.Client(base_url=base, timeout=PATIENCE_S, trust_env=False) as client,
        client.stream("POST", "/v1/audio/speech", json=body) as answer,
    ):
        connection.send(json.dumps({"input": TEXT}))
        assert json.loads(connection.recv())["event"] == "start"
        server.process.send_signal(signal.SIGTERM)
        assert settle(lambda: _status(address, "/readyz") == 503)
        refused = httpx.post(f"{base}/v1/audio/speech", json=body, trust_env=False)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "draining"
        assert int(refused.headers["retry-after"]) >= 1
        idle.send(json.dumps({"input": TEXT}))
        assert hear(idle)[0][-1]["code"] == "draining"
        events, sound = hear(connection)
        assert events[-1]["event"] == "done"
        heard = b"".join(answer.iter_bytes())
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=PATIENCE_S)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert len(sound) > 1.3 * 48_000
    assert len(heard) > 1.3 * 48_000
    assert server.wait() == 0
    assert "Traceback" not in server.log


def test_what_outlasts_the_grace_is_visibly_cut(launch) -> None:
    server = launch(VIVAVOCE_DRAIN_TIMEOUT_S="0.3")
    address = server.ready()
    body = {"input": TEXT * 20, "response_format": "pcm"}
    with (
        connect(f"ws://{address}/v1/audio/speech/ws", proxy=None) as connection,
        httpx.Client(base_url=f"http://{address}", timeout=PATIENCE_S, trust_env=False) as client,
        client.stream("POST", "/v1/audio/speech", json=body) as answer,
    ):
        connection.send(json.dumps({"input": TEXT * 20}))
        connection.recv()
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            hear(connection)
        with pytest.raises(httpx.RemoteProtocolError):
            list(answer.iter_bytes())
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert server.wait() == 0
    assert "Traceback" not in server.log


def test_a_second_signal_leaves_at_once(launch) -> None:
    server = launch()
    address = server.ready()
    with (
        httpx.Client(base_url=f"http://{address}", timeout=PATIENCE_S, trust_env=False) as client,
        client.stream("POST", "/v1/audio/speech", json={"input": TEXT * 50}),
    ):
        server.process.send_signal(signal.SIGINT)
        assert settle(lambda: _status(address, "/readyz") == 503)
        server.process.send_signal(signal.SIGINT)
        assert server.wait() == 0


def test_a_signal_while_loading_ends_it(launch) -> None:
    server = launch(VIVAVOCE_FAKE=json.dumps({"load_ms": 1_000}))
    address = server.address()
    assert settle(lambda: _status(address, "/livez") == 200)
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "Traceback" not in server.log


def test_settings_that_are_wrong_end_with_one_line(launch) -> None:
    public = launch(VIVAVOCE_HOST="0.0.0.0")
    assert public.wait() == 1
    assert len(public.lines) == 1
    assert "VIVAVOCE_API_KEYS" in public.log


def test_a_server_that_can_never_speak_ends_with_one_line(tmp_path) -> None:
    missing = json.dumps({"model": str(tmp_path / "none.onnx")})
    process = Process(str(tmp_path), VIVAVOCE_ENGINE="piper", VIVAVOCE_PIPER=missing)
    assert process.process.wait(60) != 0
    process._reader.join(PATIENCE_S)
    assert process.process.stderr is not None
    process.process.stderr.close()
    assert process.lines[-1].startswith("error: ")
    assert "none.onnx" in process.lines[-1]
    assert "Traceback" not in process.log


def test_half_a_request_holds_up_no_drain(launch) -> None:
    """With half a body, and with half a head; both would be given up after ten seconds."""
    server = launch(VIVAVOCE_DRAIN_TIMEOUT_S="60", VIVAVOCE_HEAD_TIMEOUT_S="60")
    host, _, port = server.ready().partition(":")
    half = b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
    with (
        socket.create_connection((host, int(port))) as body,
        socket.create_connection((host, int(port))) as head,
    ):
        body.sendall(half)
        head.sendall(half[:20])
        assert settle(lambda: _status(f"{host}:{port}", "/readyz") == 200)
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0


def test_what_is_written_but_not_read_yet_is_delivered(launch) -> None:
    """The last bytes leave when their reader comes back, after the answer itself is over."""
    server = launch(VIVAVOCE_FAKE=json.dumps({"step_ms": 1}))
    host, _, port = server.ready().partition(":")
    body = json.dumps({"input": TEXT * 40, "response_format": "pcm"}).encode()
    lines = b"POST /v1/audio/speech HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        raw.connect((host, int(port)))
        raw.sendall(lines + body)
        assert raw.recv(12) == b"HTTP/1.1 200"
        assert settle(lambda: '"spoken"' in server.log)
        server.process.send_signal(signal.SIGTERM)
        assert settle(lambda: "draining" in server.log)
        time.sleep(6)  # longer than what is left is given when the drain is over
        received = b""
        while data := raw.recv(65_536):
            received += data
    sound = received.partition(b"\r\n\r\n")[2]
    assert len(sound) > 40 * 1.3 * 48_000
    assert server.wait() == 0
