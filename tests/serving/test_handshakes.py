"""Every WebSocket handshake is answered, and one that is refused is no error of the server's."""

from __future__ import annotations

import logging
import socket
import time

import pytest
from tests.serving.conftest import PATIENCE_S, LiveServer, Serve, settle

FIELDS = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}

ANSWERED = [
    ({}, 101),
    ({"Content-Length": "0"}, 101),
    ({"Content-Length": "5"}, 400),
    ({"Transfer-Encoding": "chunked"}, 400),
    ({"Sec-WebSocket-Key": "short"}, 400),
    ({"Sec-WebSocket-Protocol": ",,"}, 400),
    ({"Cookie": "x" * 9_000}, 431),
    ({"Origin": "null"}, 403),
    ({"Host": "evil.example"}, 421),
]


def answer_to(server: LiveServer, request: bytes) -> bytes:
    """The beginning of an answer; empty where the connection closes without one."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as raw:
        raw.sendall(request)
        return raw.recv(12)


def handshake(fields: dict[str, str], path: str = "/v1/audio/speech/ws") -> bytes:
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("fields", "status"), ANSWERED, ids=[next(iter(each), "plain") for each, _ in ANSWERED]
)
def test_a_handshake_is_answered_and_leaves_no_error_in_the_log(
    server: LiveServer, caplog: pytest.LogCaptureFixture, fields: dict[str, str], status: int
) -> None:
    request = handshake(FIELDS | fields)
    caplog.set_level(logging.ERROR)
    assert answer_to(server, request) == f"HTTP/1.1 {status}".encode()
    assert settle(lambda: not server.server.connections)
    assert [record.getMessage() for record in caplog.records] == []


def test_an_unknown_path_is_answered(server: LiveServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    assert answer_to(server, handshake(FIELDS, "/nothing")) == b"HTTP/1.1 403"
    assert settle(lambda: not server.server.connections)
    assert [record.getMessage() for record in caplog.records] == []


def test_a_body_that_follows_its_answer_buys_no_time(serve: Serve) -> None:
    """Between two requests a connection may be silent for 5 s, however the first one ended."""
    server = serve(head_timeout_s=60.0)
    head = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as raw:
        raw.sendall(head)
        assert raw.recv(12) == b"HTTP/1.1 404"
        raw.sendall(b"{}")
        began_s = time.monotonic()
        while raw.recv(65_536):
            pass
        assert time.monotonic() - began_s < 30
