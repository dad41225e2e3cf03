"""Behind TLS of its own the server keeps the same bounds, from before the handshake."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from faults.inprocess import InnerServer, serving_here
from faults.wire import PATIENCE_S, dialled, head, heard_from, post, read_all, read_head
from quality.live import settled

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificate")

SPEECH = "/v1/audio/speech"
TEXT = "Nobody listens to this story. " * 300
HELLO = bytes.fromhex("1603010200")  # how a ClientHello of 512 bytes begins


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    made = {"ssl_certfile": folder / "certificate.pem", "ssl_keyfile": folder / "key.pem"}
    command = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(made["ssl_keyfile"]), "-out", str(made["ssl_certfile"])]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([str(OPENSSL), *command], check=True, capture_output=True)
    return made


@pytest.fixture
def server(tmp_path: Path, certificate: dict[str, Path]) -> Iterator[InnerServer]:
    limits: dict[str, Any] = {"head_timeout_s": 1.0, "stall_timeout_s": 1.0, "max_connections": 8}
    with serving_here(tmp_path, **limits, **certificate) as live:
        yield live


@pytest.fixture
def trust(certificate: dict[str, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate["ssl_certfile"]))


@contextmanager
def secure(server: InnerServer, trust: ssl.SSLContext) -> Iterator[socket.socket]:
    with (
        socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as raw,
        trust.wrap_socket(raw, server_hostname="localhost") as wrapped,
    ):
        yield wrapped


def count(server: InnerServer) -> int:
    return len(server.connections)


def test_every_protocol_speaks_over_tls(server: InnerServer, trust: ssl.SSLContext) -> None:
    url = f"https://127.0.0.1:{server.port}"
    with httpx.Client(base_url=url, verify=trust, trust_env=False) as client:
        plain = client.post(SPEECH, json={"input": "Hello.", "response_format": "pcm"})
        whole = client.post(
            SPEECH, json={"input": "Hello.", "response_format": "pcm", "stream": False}
        )
    assert plain.content == whole.content != b""
    path = f"wss://127.0.0.1:{server.port}/v1/audio/speech/ws"
    with connect(path, ssl=trust, proxy=None) as websocket:
        websocket.send(json.dumps({"input": "Hello."}))
        assert json.loads(websocket.recv())["event"] == "start"
    assert settled(lambda: count(server), lambda left: left == 0) == 0


def test_a_handshake_that_stops_is_given_up(server: InnerServer) -> None:
    for begun in (b"", HELLO, b"GET / HTTP/1.1\r\n\r\n"):
        with dialled(server.port) as raw:
            raw.sendall(begun)
            read_all(raw)
    assert settled(lambda: count(server), lambda left: left == 0) == 0


def test_handshakes_that_stop_keep_nobody_out(server: InnerServer, trust: ssl.SSLContext) -> None:
    with ExitStack() as stack:
        raws = [stack.enter_context(dialled(server.port)) for _ in range(40)]
        for raw in raws:
            if not heard_from(raw):
                raw.sendall(HELLO)
        assert count(server) <= 8
        with secure(server, trust) as wrapped:
            wrapped.sendall(head("/livez"))
            assert read_head(wrapped).startswith(b"HTTP/1.1 200 ")
    assert settled(lambda: count(server), lambda left: left == 0) == 0


def test_callers_at_the_bound_do_not_lose_their_own_place(
    server: InnerServer, trust: ssl.SSLContext
) -> None:
    """A handshake becomes a connection; it does not need two places for that."""
    body = json.dumps({"input": TEXT, "response_format": "wav"}).encode()
    with ExitStack() as stack:
        for _ in range(8):
            wrapped = stack.enter_context(secure(server, trust))
            wrapped.sendall(post(SPEECH, body))
            assert read_head(wrapped).startswith(b"HTTP/1.1 200 ")
        assert count(server) == 8


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head("/livez", *[b"A:"] * 200), b"431"),
        (b"GET /livez HT", b"408"),
        (post(SPEECH, b"x" * 9_000)[:-9], b"408"),
        (post(SPEECH, b'{"input": "Hi."}') + head("/livez"), b"200"),
    ],
    ids=["fields", "half a head", "half a body", "pipelined"],
)
def test_the_same_requests_are_refused(
    server: InnerServer, trust: ssl.SSLContext, sent: bytes, status: bytes
) -> None:
    with secure(server, trust) as wrapped:
        wrapped.sendall(sent)
        answer = read_all(wrapped).raw
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert (b"pipelining_refused" in answer) == (status == b"200")


def test_speech_that_nobody_reads_is_dropped(server: InnerServer, trust: ssl.SSLContext) -> None:
    for fields in ({}, {"stream": False}):
        body = json.dumps({"input": TEXT, "sample_rate": 48_000} | fields).encode()
        with secure(server, trust) as wrapped:
            wrapped.sendall(post(SPEECH, body.replace(b"}", b', "response_format": "wav"}')))
            assert settled(lambda: count(server), lambda left: left == 1) == 1
            assert settled(lambda: count(server), lambda left: left == 0) == 0


def test_a_server_that_stops_leaves_no_handshake(
    tmp_path: Path, certificate: dict[str, Path]
) -> None:
    with serving_here(tmp_path, **certificate) as server, dialled(server.port) as raw:
        raw.sendall(HELLO)
        assert settled(lambda: count(server), lambda left: left == 1) == 1
    assert count(server) == 0
