"""Web pages of strangers, whatever they try, and pages that may call."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.serving.conftest import LiveServer, Serve, hear
from websockets.exceptions import InvalidStatus

from vivavoce.serving.auth import Doors
from vivavoce.serving.keys import KeyRing
from vivavoce.serving.origins import HostRule, OriginRule
from vivavoce.settings import Settings

EVIL = "https://evil.example"
SPEECH = "/v1/audio/speech"
WORD = b'{"input": "Hi you."}'


@pytest.fixture
def desk(serve: Serve, tmp_path: Any) -> LiveServer:
    """A server on a desk: no key, a loudspeaker, a folder for files."""
    return serve(playback="null", output_dir=tmp_path / "out")


def unchanged(server: LiveServer) -> tuple[Any, ...]:
    """What a page could have done."""
    return (server.engine.steps, len(server.service.voices.saved()), server.service.cache.stats)


def attempts(wav: bytes) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What a page can send without asking the browser's leave, and some more."""
    yield "POST", SPEECH, {"content": WORD}  # a Blob has no Content-Type
    yield "POST", SPEECH, {"content": WORD, "headers": {"Content-Type": "text/plain"}}
    yield "POST", SPEECH, {"json": {"input": "Hi you."}}
    yield "POST", f"{SPEECH}/stream", {"content": WORD}
    yield "POST", f"{SPEECH}/stream/pcm", {"content": WORD}
    yield "POST", "/v1/audio/voices", {"data": {"name": "eve"}, "files": {"file": wav}}
    yield "POST", f"{SPEECH}/clone", {"data": {"input": "Hi."}, "files": {"file": wav}}
    yield "DELETE", "/v1/audio/voices/eve", {}
    for path in ("/cache/clear", "/v1/audio/play/stop", "/v1/audio/play/skip"):
        yield "POST", path, {}
    yield "POST", "/v1/audio/play", {"content": WORD}
    yield "POST", "/", {"content": b'{"text": "Hi you."}'}
    yield "POST", "/v1/client_tokens", {"content": b"{}"}
    yield "PUT", "/nowhere", {}


@pytest.mark.parametrize(
    "page",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": EVIL},
    ],
)
def test_a_page_of_another_origin_can_neither_speak_nor_change_anything(
    desk: LiveServer, wav_recording: bytes, page: dict[str, str]
) -> None:
    before = unchanged(desk)
    for method, path, what in attempts(wav_recording):
        headers = what.pop("headers", {}) | page
        answer = desk.client.request(method, path, headers=headers, **what)
        assert answer.status_code == 403, (path, answer.text)
        assert answer.json()["error"]["code"] == "foreign_origin"
        assert answer.json()["error"]["type"] == "permission_error"
        assert "cors_origins" in answer.json()["error"]["message"]
        assert "access-control-allow-origin" not in answer.headers
    assert unchanged(desk) == before


@pytest.mark.parametrize("origin", [EVIL, "null", "http://localhost:3000", "file://"])
def test_a_page_of_another_origin_gets_no_socket(desk: LiveServer, origin: str) -> None:
    headers = {"Origin": origin}
    with pytest.raises(InvalidStatus) as refused, desk.socket(additional_headers=headers):
        pass
    assert refused.value.response.status_code == 403
    assert b"cors_origins" in refused.value.response.body


def upgraded(server: LiveServer, host: str) -> bytes:
    """The answer to a WebSocket handshake under that name."""
    lines = ["GET /v1/audio/speech/ws HTTP/1.1", f"Host: {host}", f"Origin: http://{host}"]
    lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", ""]
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        raw.sendall("\r\n".join(lines).encode())
        return raw.recv(4_096)


def test_a_name_that_was_pointed_at_this_machine_opens_nothing(desk: LiveServer) -> None:
    paths = ["/", "/docs", "/openapi.json", "/health", "/livez", "/metrics", "/v1/audio/voices"]
    for host in ("evil.example", f"evil.example:{desk.port}", "192.0.2.7"):
        for path in (*paths, "/nowhere"):
            answer = desk.client.get(path, headers={"Host": host})
            assert answer.status_code == 421, path
            assert answer.json()["error"]["code"] == "unknown_host"
            assert "allowed_hosts" in answer.json()["error"]["message"]
        page = {"Host": host, "Origin": f"http://{host}"}
        assert desk.client.post(SPEECH, json={"input": "Hi."}, headers=page).status_code == 421
        assert upgraded(desk, host).startswith(b"HTTP/1.1 421")
    assert desk.engine.steps == unchanged(desk)[0]


def test_names_of_this_machine_and_configured_ones_are_answered(serve: Serve) -> None:
    server = serve(allowed_hosts="*.desk.example")
    assert upgraded(server, "a.desk.example").startswith(b"HTTP/1.1 101")
    for host in ("localhost", f"127.0.0.1:{server.port}", "[::1]:1", "tts.desk.example:9"):
        assert server.client.get("/v1/models", headers={"Host": host}).status_code == 200
    assert server.client.get("/v1/models", headers={"Host": "desk.example"}).status_code == 421


def test_a_client_without_a_host_is_no_browser(server: LiveServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        raw.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert raw.recv(4_096).startswith(b"HTTP/1.1 200")


def test_the_servers_own_pages_and_programs_may_call(desk: LiveServer) -> None:
    for page in ({}, {"Origin": desk.url}, {"Origin": desk.url, "Sec-Fetch-Site": "same-origin"}):
        assert desk.client.post(SPEECH, content=WORD, headers=page).status_code == 200
        with desk.socket(additional_headers=page) as connection:
            connection.send(WORD.decode())
            assert hear(connection)[0][-1]["event"] == "done"


def test_pages_of_configured_origins_may_call(serve: Serve) -> None:
    server = serve(cors_origins="https://App.Example/, http://localhost:3000")
    for origin in ("https://app.example", "http://localhost:3000"):
        answer = server.client.post(SPEECH, content=WORD, headers={"Origin": origin})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin
        with server.socket(additional_headers={"Origin": origin}):
            pass
    assert server.client.post(SPEECH, content=WORD, headers={"Origin": EVIL}).status_code == 403


def preflight(server: LiveServer, origin: str) -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    return server.client.options(SPEECH, headers=asked)


@pytest.mark.parametrize("keys", [(), ("a key of the server",)])
def test_a_preflight_is_answered_with_a_hint(serve: Serve, keys: tuple[str, ...]) -> None:
    refused = preflight(serve(api_keys=keys), EVIL)
    assert refused.status_code == 403
    assert "cors_origins" in refused.json()["error"]["message"]
    assert "access-control-allow-origin" not in refused.headers
    assert preflight(serve(api_keys=keys, cors_origins=EVIL), EVIL).status_code == 200


def test_what_is_no_preflight_is_not_taken_for_one(server: LiveServer) -> None:
    asked = {"Origin": server.url, "Access-Control-Request-Method": "POST"}
    answer = server.client.post(SPEECH, content=WORD, headers=asked)
    assert answer.status_code == 200
    assert server.client.options(SPEECH, headers={"Origin": EVIL}).status_code == 405


async def test_the_address_that_a_connection_came_in_at_is_a_name_of_the_server() -> None:
    settings = Settings(host="0.0.0.0", api_keys="a key of the server", allowed_hosts="a.example")
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(200)

    async def send(message: Any) -> None:
        seen.append(message.get("status", 0))

    rules = HostRule.of(settings), OriginRule.of(settings)
    doors = Doors(app, KeyRing.of(settings), *rules)
    headers = [(b"host", b"10.0.0.4:8000"), (b"x-api-key", b"a key of the server")]
    for local in (("10.0.0.4", 8_000), ("10.0.0.5", 8_000), None):
        scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": headers}
        await doors(scope | {"query_string": b"", "server": local}, None, send)  # type: ignore[arg-type]
    assert [status for status in seen if status] == [200, 421, 421]


def test_reading_across_origins_is_hidden_by_the_browser(server: LiveServer) -> None:
    answer = server.client.get("/v1/models", headers={"Origin": EVIL})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_public_with_a_key_answers_under_any_name(serve: Serve) -> None:
    server = serve(host="0.0.0.0", api_keys="a key of the server")
    key = {"X-API-Key": "a key of the server"}
    assert server.client.get("/v1/models", headers=key | {"Host": "x.example"}).status_code == 200
    page = key | {"Origin": EVIL, "Host": "x.example"}
    assert server.client.post(SPEECH, content=WORD, headers=page).status_code == 403


def test_public_without_a_key_is_not_for_rebound_names(serve: Serve) -> None:
    server = serve(host="0.0.0.0", allow_public_without_key=True)
    page = {"Host": "evil.example", "Origin": "http://evil.example"}
    assert server.client.post(SPEECH, content=WORD, headers=page).status_code == 421
    nas = {"Host": "192.168.1.5:8000", "Origin": "http://192.168.1.5:8000"}
    assert server.client.post(SPEECH, content=WORD, headers=nas).status_code == 200


def test_no_name_of_a_model_is_the_engine(desk: LiveServer) -> None:
    for path in (SPEECH, "/v1/audio/play"):
        answer = desk.client.post(path, json={"input": "Hi you.", "model": "", "voice": ""})
        assert answer.status_code == 200
        assert desk.client.post(path, json={"input": "Hi.", "model": " "}).status_code == 404
