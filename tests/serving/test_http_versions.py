"""HTTP/1.0 gets no chunks, and HEAD is GET without a body."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from tests.serving.conftest import PATIENCE_S

BODY = json.dumps({"input": "Hello there.", "response_format": "pcm"}).encode()
EVERYWHERE = [
    "/", "/livez", "/readyz", "/health", "/metrics", "/v1/info", "/v1/models", "/v1/models/tts-1",
    "/v1/audio/models", "/v1/audio/voices", "/openapi.json", "/docs",
]  # fmt: skip


def exchange(port: int, request: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """Status line, fields and everything behind the head, until the server closes."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as raw:
        raw.sendall(request)
        while data := raw.recv(65_536):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    pairs = [line.decode().split(": ", 1) for line in lines]
    return status, dict(pairs), body


def request(version: str, path: str, body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Content-Type: application/json", "Host: localhost"]
    lines += ["Connection: close", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/audio/speech/stream/pcm"])
def test_http_1_0_gets_no_chunks(server: Any, path: str) -> None:
    new = server.client.post(path, content=BODY).content
    status, fields, body = exchange(server.port, request("1.0", path, BODY))
    assert status.endswith(b"200 OK")
    assert "transfer-encoding" not in fields
    assert fields["connection"] == "close"
    assert body == new
    assert "chunked" in exchange(server.port, request("1.1", path, BODY))[1]["transfer-encoding"]


def test_http_1_0_hears_events_as_they_are(server: Any) -> None:
    path = "/v1/audio/speech/stream"
    body = exchange(server.port, request("1.0", path, BODY))[2]
    assert body.startswith(b"event: metadata\n")
    assert body.endswith(b"data: [DONE]\n\n")


def test_http_1_0_is_told_lengths_that_are_known(server: Any) -> None:
    for sent in (b'{"input": "Hi.", "stream": false}', b'{"input": ""}'):
        _, fields, body = exchange(server.port, request("1.0", "/v1/audio/speech", sent))
        assert int(fields["content-length"]) == len(body)


def test_a_failure_is_a_reset_for_http_1_0(server: Any) -> None:
    sent = b'{"input": "Some words come first. Then a failword.", "response_format": "pcm"}'
    with pytest.raises(ConnectionResetError):
        exchange(server.port, request("1.0", "/v1/audio/speech", sent))


@pytest.mark.parametrize("path", EVERYWHERE)
def test_head_is_answered_as_get_without_a_body(server: Any, path: str) -> None:
    get, head = server.client.get(path), server.client.head(path)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    varying = {"date", "x-request-id"} | ({"content-length"} if path == "/metrics" else set())
    mine = {name: value for name, value in head.headers.items() if name not in varying}
    assert mine == {name: value for name, value in get.headers.items() if name not in varying}


def test_a_head_answer_has_no_byte_of_a_body(server: Any) -> None:
    lines = b"HEAD /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    status, fields, body = exchange(server.port, lines)
    assert status.endswith(b"200 OK")
    assert int(fields["content-length"]) > 0
    assert body == b""


@pytest.mark.parametrize(
    ("path", "status", "allowed"),
    [("/nothing", 404, None), ("/v1/audio/speech", 405, "POST"), ("/v1/models/x", 404, None)],
)
def test_head_fails_where_get_does(
    server: Any, path: str, status: int, allowed: str | None
) -> None:
    answer = server.client.head(path)
    assert answer.status_code == status
    assert answer.headers.get("allow") == allowed
    assert answer.content == b""


def test_head_is_described_and_allowed_where_get_is(server: Any) -> None:
    schema = server.client.get("/openapi.json").json()
    names = []
    for path, operations in schema["paths"].items():
        assert ("head" in operations) == ("get" in operations)
        names += [operation["operationId"] for operation in operations.values()]
        if "head" in operations:
            assert "content" not in operations["head"]["responses"]["200"]
            refused = server.client.put(path.replace("{model_id}", "x"))
            assert {"GET", "HEAD"} <= set(refused.headers["allow"].split(", "))
    assert len(names) == len(set(names))


def test_head_needs_a_key_where_get_does(serve: Any) -> None:
    server = serve(api_keys=("a-key-that-is-long-enough",))
    assert server.client.head("/livez").status_code == 200
    assert server.client.head("/v1/models").status_code == 401
    keyed = {"Authorization": "Bearer a-key-that-is-long-enough"}
    assert server.client.head("/v1/models", headers=keyed).status_code == 200
