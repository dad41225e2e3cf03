"""Clients who hold connections cannot keep others out, however few files the server may open."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from faults.rawcalls import upgrade_request
from faults.residue import Residue, normal_call, process_residue
from faults.wire import dialled, head, heard_from, post, read_head
from quality.live import LiveServer, serving, settled

OPEN_FILES = 256
MANY = 200
SPEECH = "/v1/audio/speech"
LONG = json.dumps({"input": "Nobody listens to this long story. " * 200, "response_format": "wav"})
KINDS = {
    "idle": [b""],
    "half-sent head": [b"GET /livez HTTP/1.1\r\nHost: te"],
    "half-sent body": [post(SPEECH, LONG.encode())[:-9]],
    "never reading": [post(SPEECH, LONG.encode())],
    "never reading many": [head("/openapi.json").replace(b"close", b"keep-alive")] * 3,
    "sockets": [upgrade_request("/v1/audio/speech/ws")],
}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    settings = {
        "capacity": 4, "max_queue_depth": 8, "audio_cache_max": 0, "log_format": "json",
        "head_timeout_s": 3.0, "stall_timeout_s": 2.0, "request_timeout_s": 20.0,
    }  # fmt: skip
    with serving("fake", settings, open_files=OPEN_FILES) as live:
        yield live


@contextmanager
def held(server: LiveServer, sent: list[bytes], count: int = MANY) -> Iterator[list[Any]]:
    """Many connections that have sent something and read nothing."""
    with ExitStack() as stack:
        raws = []
        for _ in range(count):
            raw = stack.enter_context(dialled(server.port, receive_bytes=4_096))
            for piece in sent:
                try:
                    raw.sendall(piece)
                except ConnectionError:
                    break
            raws.append(raw)
        yield raws


def calm_residue(server: LiveServer) -> Residue:
    """What is left once no request is served any more."""
    settled(lambda: server.metric("tts_requests_running"), lambda running: running == 0)
    return process_residue(server)


def alive(server: LiveServer) -> bool:
    try:
        return httpx.get(f"{server.url}/livez", trust_env=False, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("kind", KINDS)
def test_hundreds_of_connections_keep_nobody_out(server: LiveServer, kind: str) -> None:
    sound = normal_call(server.url)
    before = process_residue(server)
    with held(server, KINDS[kind]):
        for _ in range(10):
            assert settled(lambda: alive(server), bool)
        bound = settled(lambda: server.logged("as many connections"), bool)
        assert bound, "the bound was met without a word"
        assert len(bound) < 10
    after = settled(lambda: calm_residue(server), lambda seen: seen.within(before))
    assert after.within(before), f"{after} is left, where there was {before}"
    assert normal_call(server.url) == sound
    assert "Traceback" not in server.log.read_text()


def test_all_kinds_at_once_leave_nothing(server: LiveServer) -> None:
    sound = normal_call(server.url)
    before = process_residue(server)
    with ExitStack() as stack:
        for kind in KINDS.values():
            stack.enter_context(held(server, kind, count=100))
        assert settled(lambda: alive(server), bool)
    after = settled(lambda: calm_residue(server), lambda seen: seen.within(before))
    assert after.within(before), f"{after} is left, where there was {before}"
    assert normal_call(server.url) == sound


def test_the_bound_leaves_files_for_everything_else(server: LiveServer) -> None:
    with held(server, KINDS["idle"]):
        assert settled(lambda: alive(server), bool)
        descriptors = process_residue(server).descriptors
    assert descriptors < OPEN_FILES - 64
    assert server.logged("fewer connections")[0]["max_connections"] < OPEN_FILES


def speak(socket: ClientConnection, text: str) -> str:
    socket.send(json.dumps({"input": text}))
    while isinstance(message := socket.recv(), bytes) or json.loads(message)["event"] == "start":
        pass
    return str(json.loads(message)["event"])


def test_a_flood_of_idle_connections_cuts_no_call() -> None:
    """Idle connections of the flood go before a socket between two turns, and before streams."""
    settings = {"max_connections": 50, "fake.paced": True}
    with (
        serving("fake", settings) as server,
        connect(f"ws://127.0.0.1:{server.port}/v1/audio/speech/ws", proxy=None) as socket,
        httpx.Client(base_url=server.url, trust_env=False) as client,
    ):
        assert speak(socket, "Hello there.") == "done"
        body = {"input": "A story of some length. " * 4, "response_format": "pcm"}
        with client.stream("POST", SPEECH, json=body) as answer:
            with held(server, KINDS["half-sent head"], count=200):
                assert speak(socket, "And again.") == "done"
            for _ in answer.iter_bytes():
                pass
        assert speak(socket, "Once more.") == "done"


def test_the_newest_of_too_many_connections_is_served(server: LiveServer) -> None:
    with held(server, KINDS["idle"]) as raws:
        newest = raws[-1]
        newest.sendall(head("/livez"))
        assert read_head(newest).startswith(b"HTTP/1.1 200 ")
        assert settled(lambda: heard_from(raws[0]), bool)


def test_a_server_whose_every_connection_is_in_use_says_so() -> None:
    settings = {"max_connections": 2, "fake.paced": True, "log_format": "json"}
    body = json.dumps({"input": "A long while. " * 20, "response_format": "pcm"}).encode()
    with serving("fake", settings) as live, ExitStack() as stack:
        for _ in range(2):
            raw = stack.enter_context(dialled(live.port))
            raw.sendall(post(SPEECH, body))
            assert read_head(raw).startswith(b"HTTP/1.1 200 ")
        with dialled(live.port) as third:
            refusal = read_head(third)
        assert refusal.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in refusal
        assert settled(lambda: live.logged("as many connections"), bool)[0]["refused"] == 1
