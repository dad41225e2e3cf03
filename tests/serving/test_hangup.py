"""A client that goes away frees its slot within one engine step, whatever was going on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.serving.conftest import LiveServer, hear, settle

from vivavoce.settings import Settings

LONG = "This goes on and on. " * 60
WAYS = [
    ("/v1/audio/speech", {"response_format": "mp3"}),
    ("/v1/audio/speech", {"response_format": "pcm"}),
    ("/v1/audio/speech", {"stream_format": "sse"}),
    ("/v1/audio/speech/stream", {}),
    ("/v1/audio/speech/stream/pcm", {}),
]
ways = pytest.mark.parametrize(("path", "fields"), WAYS, ids=["mp3", "pcm", "sse", "events", "raw"])


@pytest.fixture(scope="module")
def server(tmp_path_factory, no_settings_around) -> Iterator[LiveServer]:
    """One slot, in real time, nothing remembered."""
    options = {"paced": True, "capacity": 1, "slow_ms": 300.0}
    data_dir = tmp_path_factory.mktemp("data")
    live = LiveServer(
        Settings(engine="fake", port=0, fake=options, audio_cache_max=0, data_dir=data_dir)
    )
    live.start()
    yield live
    live.stop()


def _back_to_normal(server) -> None:
    assert settle(lambda: server.idle)
    assert settle(lambda: server.service.lifecycle.loop.live == 0)
    assert settle(server.steps_stop)
    assert server.speak(response_format="pcm", speed=4).status_code == 200


@ways
def test_while_queued(server, path, fields) -> None:
    first = server.raw_post("/v1/audio/speech", {"input": LONG})
    assert settle(lambda: server.service.admission.running == 1)
    waiting = server.raw_post(path, {"input": LONG} | fields)
    assert settle(lambda: server.service.admission.waiting == 1)
    waiting.close()
    assert settle(lambda: server.service.admission.waiting == 0)
    assert server.service.admission.running == 1
    first.close()
    _back_to_normal(server)


@ways
def test_before_the_first_sound(server, path, fields) -> None:
    raw = server.raw_post(path, {"input": f"slowword {LONG}"} | fields)
    assert settle(lambda: server.service.admission.running == 1)
    raw.close()
    _back_to_normal(server)


@ways
def test_in_the_middle(server, path, fields) -> None:
    raw = server.raw_post(path, {"input": LONG} | fields)
    assert raw.recv(2_000).startswith(b"HTTP/1.1 200")
    raw.close()
    _back_to_normal(server)


@ways
def test_at_the_end(server, path, fields) -> None:
    assert server.speak(path, speed=4, **fields).status_code == 200
    _back_to_normal(server)


@pytest.mark.parametrize("heard", [0, 1, 5])
def test_a_socket_in_the_middle(server, heard) -> None:
    with server.socket() as connection:
        connection.send(json.dumps({"input": LONG}))
        for _ in range(heard):
            connection.recv()
        assert settle(lambda: server.service.admission.running == 1)
        connection.socket.close()
    _back_to_normal(server)


def test_a_socket_while_queued(server) -> None:
    first = server.raw_post("/v1/audio/speech", {"input": LONG})
    assert settle(lambda: server.service.admission.running == 1)
    with server.socket() as connection:
        connection.send(json.dumps({"input": LONG}))
        assert settle(lambda: server.service.admission.waiting == 1)
    assert settle(lambda: server.service.admission.waiting == 0)
    first.close()
    _back_to_normal(server)


def test_a_socket_at_the_end(server) -> None:
    with server.socket() as connection:
        connection.send(json.dumps({"input": "Hello there.", "speed": 4}))
        assert hear(connection)[0][-1]["event"] == "done"
    _back_to_normal(server)


def test_hang_ups_are_counted_as_cancelled(serve) -> None:
    server = serve(fake={"paced": True})
    server.raw_post("/v1/audio/speech", {"input": LONG}).close()
    line = 'tts_requests_total{outcome="cancelled",transport="http"} 1.0'
    assert settle(lambda: line in server.client.get("/metrics").text)
    assert "tts_cancel_to_release_seconds_count" in server.client.get("/metrics").text


@pytest.mark.slow
def test_a_thousand_hang_ups_leave_nothing_behind(serve) -> None:
    import os
    import random
    import threading

    server = serve(fake={"paced": True, "capacity": 4})
    draw = random.Random(7)
    server.raw_post(WAYS[0][0], {"input": LONG}).close()
    _back_to_normal(server)
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(1_000):
        path, fields = draw.choice(WAYS)
        raw = server.raw_post(path, {"input": LONG} | fields)
        if draw.random() < 0.5:
            raw.recv(draw.choice([1, 500, 5_000]))
        raw.close()
    _back_to_normal(server)
    assert settle(lambda: threading.active_count() <= threads)
    assert settle(lambda: len(os.listdir("/proc/self/fd")) <= files)


def test_in_the_middle_of_its_own_body(server, caplog) -> None:
    raw = server.raw_post("/v1/audio/speech", {"input": LONG})
    raw.close()
    import socket

    with socket.create_connection(("127.0.0.1", server.port)) as half:
        half.sendall(
            b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        )
    _back_to_normal(server)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
