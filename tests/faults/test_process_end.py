"""After SIGTERM the process is gone in time, in every phase and whatever hangs."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from faults.processes import PATIENCE_S, ServerProcess, raw_connection, server_process
from vivavoce.audio.encode import wav_file

LONG = "On and on this goes and does not end so soon. " * 40
SHORT = "one two three"
PACED = {"fake.paced": "true"}
NAMES = [f"field_without_an_effect_{number}" for number in range(20)]
"""They make a line of the log long."""
SLACK_S = 3.0
"""What a loaded machine may add to a promise in seconds; a broken promise is broken by far more."""


@contextmanager
def calling(server: ServerProcess, path: str, **fields: Any) -> Iterator[list[Any]]:
    """A call in a thread; the list gets what became of it."""
    results: list[Any] = []

    def call() -> None:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=PATIENCE_S) as client:
            try:
                answer = client.post(path, **fields)
                results.append((answer.status_code, answer.content))
            except httpx.TransportError as error:
                results.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield results
    finally:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def recording() -> dict[str, Any]:
    import numpy as np

    tone = 0.4 * np.sin(np.arange(48_000) * 2 * np.pi * 220 / 24_000)
    return {"files": {"file": ("a.wav", wav_file(tone.astype(np.float32), 24_000))}}


def gone_in_time(server: ServerProcess, since_s: float) -> int:
    """Its exit status; fails where the promise is broken."""
    status = server.wait()
    took_s = time.monotonic() - since_s
    assert took_s < server.drain_timeout_s + 5 + SLACK_S, server.log
    assert "Traceback" not in server.log
    return status


def running(server: ServerProcess, count: int = 1) -> None:
    """Wait until so many requests are in slots."""

    def seen() -> bool:
        health = httpx.get(f"{server.url}/health", trust_env=False).json()
        return bool(health["running"] + health["queue_depth"] >= count)

    server.until(seen)


def state(server: ServerProcess) -> str:
    return str(httpx.get(f"{server.url}/health", trust_env=False).json()["state"])


# Every phase.


def test_while_it_loads(tmp_path: Path) -> None:
    with server_process(tmp_path, **{"fake.load_ms": 60_000}) as server:
        server.until(lambda: server.probe("/livez") == 200)
        assert gone_in_time(server, server.send_signal()) == 0


def test_while_callers_wait_in_the_queue_and_for_their_first_sound(tmp_path: Path) -> None:
    settings = {"fake.step_ms": 300, "capacity": 1}
    body = {"input": SHORT, "response_format": "pcm"}
    with server_process(tmp_path, **settings) as server:
        server.ready()
        with (
            calling(server, "/v1/audio/speech", json=body) as first,
            calling(server, "/v1/audio/speech", json=body | {"seed": 1}) as second,
        ):
            running(server, 2)
            since_s = server.send_signal()
        assert [first[0][0], second[0][0]] == [200, 200]
        assert gone_in_time(server, since_s) == 0


@pytest.mark.parametrize(
    ("path", "ends"),
    [
        ("/v1/audio/speech/stream", "event: done"),
        pytest.param("/v1/audio/speech/stream/pcm", "", marks=pytest.mark.slow),
        ("/v1/audio/speech", ""),
    ],
)
def test_in_the_middle_of_a_stream(path: str, ends: str, tmp_path: Path) -> None:
    with server_process(tmp_path, **PACED) as server:
        server.ready()
        with calling(server, path, json={"input": SHORT}) as heard:
            running(server)
            since_s = server.send_signal()
        status, body = heard[0]
        assert status == 200
        assert len(body) > 0
        assert ends in body.decode("latin-1") or "[DONE]" in body.decode("latin-1")
        assert gone_in_time(server, since_s) == 0


def test_in_the_middle_of_a_socket(tmp_path: Path) -> None:
    with server_process(tmp_path, **PACED) as server:
        server.ready()
        with connect(f"ws://127.0.0.1:{server.port}/v1/audio/speech/ws", proxy=None) as socket:
            socket.send(json.dumps({"input": SHORT}))
            assert json.loads(socket.recv(PATIENCE_S))["event"] == "start"
            since_s = server.send_signal()
            message: Any = b""
            while isinstance(message, bytes):
                message = socket.recv(PATIENCE_S)
            assert json.loads(message)["event"] == "done"
        assert gone_in_time(server, since_s) == 0


@pytest.mark.slow
def test_in_the_middle_of_an_upload(tmp_path: Path) -> None:
    with server_process(tmp_path, drain_timeout_s=1) as server:
        server.ready()
        with raw_connection(server.port) as raw:
            raw.sendall(
                b"POST /v1/audio/speech/clone HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Length: 100000\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
            )
            assert gone_in_time(server, server.send_signal()) == 0


def test_at_a_second_signal_at_once(tmp_path: Path) -> None:
    with server_process(tmp_path, drain_timeout_s=600, **PACED) as server:
        server.ready()
        with calling(server, "/v1/audio/speech", json={"input": LONG}):
            running(server)
            server.send_signal()
            server.until(lambda: server.probe("/readyz") == 503)
            since_s = server.send_signal(signal.SIGINT)
            assert server.wait() == 0
            assert time.monotonic() - since_s < 10 + SLACK_S


# Whatever hangs.


@pytest.mark.parametrize("method", ["step", pytest.param("admit", marks=pytest.mark.slow)])
def test_a_call_into_the_engine_that_hangs(method: str, tmp_path: Path) -> None:
    settings = {"fake.fault": f"{method}:hang~hangword", "drain_timeout_s": 1}
    with server_process(tmp_path, **settings) as server:
        server.ready()
        with calling(server, "/v1/audio/speech", json={"input": "hangword " * 20}) as ended:
            running(server)
            assert gone_in_time(server, server.send_signal()) == 0
        assert_told(ended)


def assert_told(ended: list[Any]) -> None:
    """Whoever has heard nothing is told that it was not their fault."""
    status, body = ended[0]
    assert status == 503
    assert json.loads(body)["error"]["code"] == "draining"


@pytest.mark.slow
def test_a_release_that_hangs(tmp_path: Path) -> None:
    settings = {"fake.fault": "release:hang~hangword", "drain_timeout_s": 1}
    with server_process(tmp_path, **settings, **PACED) as server:
        server.ready()
        with httpx.Client(base_url=server.url, trust_env=False, timeout=PATIENCE_S) as client:
            body = {"input": "hangword " * 50, "response_format": "pcm"}
            with client.stream("POST", "/v1/audio/speech", json=body) as answer:
                next(answer.iter_raw())
        with calling(server, "/v1/audio/speech", json={"input": SHORT}) as ended:
            running(server)
            assert gone_in_time(server, server.send_signal()) == 0
        assert_told(ended)


def test_an_event_loop_that_hangs(tmp_path: Path) -> None:
    with server_process(
        tmp_path, **{"fake.fault": "validate:hang", "drain_timeout_s": 1}
    ) as server:
        server.ready()
        with pytest.raises(httpx.ReadTimeout):
            server.speak(SHORT, timeout_s=1.0)
        assert gone_in_time(server, server.send_signal()) == 70
        (line,) = server.logged("did not end by itself")
        assert "vivavoce-engine" in line["threads"]


def test_a_load_that_hangs(tmp_path: Path) -> None:
    with server_process(tmp_path, **{"fake.fault": "load:hang", "drain_timeout_s": 1}) as server:
        server.until(lambda: server.probe("/livez") == 200)
        assert gone_in_time(server, server.send_signal()) == 0


@pytest.mark.slow
def test_a_reload_that_hangs(tmp_path: Path) -> None:
    settings = {"fake.fault": "load:hang", "drain_timeout_s": 1, "preload_model": "false"}
    with server_process(tmp_path, **settings) as server:
        server.ready()
        with calling(server, "/v1/audio/speech", json={"input": SHORT}) as ended:
            running(server)
            assert gone_in_time(server, server.send_signal()) == 0
        assert_told(ended)


@pytest.mark.slow
def test_an_unload_that_hangs(tmp_path: Path) -> None:
    settings = {"fake.fault": "unload:hang", "drain_timeout_s": 1, "idle_timeout_s": 0.05}
    with server_process(tmp_path, **settings) as server:
        server.ready()
        server.until(lambda: state(server) == "unloaded")
        assert gone_in_time(server, server.send_signal()) == 0


def test_a_clone_that_hangs(tmp_path: Path) -> None:
    settings = {"fake.fault": "clone:hang", "drain_timeout_s": 1}
    with server_process(tmp_path, **settings) as server:
        server.ready()
        with calling(
            server, "/v1/audio/speech/clone", data={"input": SHORT}, **recording()
        ) as ended:
            running(server)
            assert gone_in_time(server, server.send_signal()) == 0
        assert_told(ended)


def test_a_log_that_nobody_reads(tmp_path: Path) -> None:
    """Speech goes on, and the process ends, though its standard error is full."""
    with server_process(tmp_path, log_level="DEBUG", drain_timeout_s=1) as server:
        server.ready()
        server.stop_reading()
        for number in range(200):
            answer = server.speak(SHORT, seed=number, **dict.fromkeys(NAMES, number))
            assert answer.status_code == 200
            assert len(answer.content) > 0
        assert server.probe("/livez") == 200
        since_s = server.send_signal()
        server.process.wait(60)
        assert time.monotonic() - since_s < server.drain_timeout_s + 5 + SLACK_S


# An engine that has failed for good.


@pytest.mark.parametrize(
    "kind",
    ["raise", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("device", "exit"))],
)
def test_a_step_that_raises_ends_the_process_where_that_was_asked_for(
    kind: str, tmp_path: Path
) -> None:
    fault = f"step:{kind}~breakit"
    with server_process(tmp_path, exit_on_failure="true", **{"fake.fault": fault}) as server:
        server.ready()
        assert server.speak("breakit").status_code == 503
        assert server.wait() == 70
        assert server.log.splitlines()[-1].startswith("vivavoce: A step of the engine failed")
        assert "Traceback" not in server.log


@pytest.mark.slow
def test_a_device_that_is_lost_ends_the_process(tmp_path: Path) -> None:
    fault = {"fake.fault": "admit:device@2+", "exit_on_failure": "true"}
    with server_process(tmp_path, **fault) as server:
        server.ready()
        assert server.speak("one").status_code in (500, 503)
        assert server.wait() == 70


@pytest.mark.parametrize("method", ["step", pytest.param("admit", marks=pytest.mark.slow)])
def test_a_thread_that_hangs_ends_the_process_at_twice_its_limit(
    method: str, tmp_path: Path
) -> None:
    fault = {"fake.fault": f"{method}:hang~hangword", "max_step_s": 0.5}
    with server_process(tmp_path, exit_on_failure="true", **fault) as server:
        server.ready()
        refused = server.speak("hangword")
        assert refused.status_code == 503
        assert "given up" in refused.json()["error"]["message"]
        assert server.wait() == 70


def test_an_event_loop_that_hangs_ends_the_process(tmp_path: Path) -> None:
    fault = {"fake.fault": "validate:hang", "max_step_s": 0.5}
    with server_process(tmp_path, exit_on_failure="true", **fault) as server:
        server.ready()
        with pytest.raises(httpx.TransportError):
            server.speak("hangword")
        assert server.wait() == 70
        (line,) = server.logged("the event loop has not moved")
        assert "fake_faults.py:" in line["message"]


def test_it_stays_where_that_was_not_asked_for(tmp_path: Path) -> None:
    with server_process(tmp_path) as server:
        server.ready()
        assert server.speak("breakword").status_code == 503
        assert server.probe("/livez") == 503
        assert server.speak("after").status_code == 503
        assert gone_in_time(server, server.send_signal()) == 0


@pytest.mark.slow
def test_an_engine_that_fails_at_the_start_ends_the_process(tmp_path: Path) -> None:
    with server_process(tmp_path, **{"fake.fault": "step:raise"}) as server:
        assert server.wait() == 70
    with server_process(tmp_path, **{"fake.fault": "load:device"}) as server:
        assert server.wait() == 70, "starting it again may help"
    with server_process(tmp_path, **{"fake.fault": "load:memory"}) as server:
        assert server.wait() == 3
        assert server.log.splitlines()[-1].startswith("vivavoce: The engine could not start")
