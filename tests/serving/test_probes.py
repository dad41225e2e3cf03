"""What /livez and /readyz say of an engine that hangs, fails, or is not loaded yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from tests.serving.conftest import LiveServer, Serve, settle

from vivavoce.engines.watch import Activity
from vivavoce.errors import ModelFileError
from vivavoce.serving.server import DrainingServer

SECRET = "four one one one"
PROBES = ("/livez", "/readyz", "/health")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is given up, so that a test can look for as long as it likes."""
    monkeypatch.setattr("vivavoce.speech.lifecycle.GIVEN_UP", 1e9)


@pytest.fixture
def hanging(serve: Serve, patient: None) -> Iterator[Callable[..., LiveServer]]:
    """Start a server whose engine hangs somewhere; it is let go at the end."""
    servers: list[LiveServer] = []

    def start(fault: str, *, wait: bool = True, **settings: Any) -> LiveServer:
        server = serve(wait=wait, fake={"fault": fault, "step_ms": 1.0}, **settings)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.engine.faults.let_go()


@contextmanager
def call(server: LiveServer, text: str) -> Iterator[None]:
    """A caller who waits until the context is left, and hangs up."""
    body = {"input": text, "response_format": "pcm"}
    with server.raw_post("/v1/audio/speech", body):
        yield


def probe(server: LiveServer, path: str) -> tuple[int, str]:
    answer = server.client.get(path)
    return answer.status_code, answer.json().get("reason") or ""


def tells(server: LiveServer, path: str, doing: str) -> bool:
    status, reason = probe(server, path)
    return status == 503 and reason.startswith(f"The engine has been {doing} for ")


@pytest.mark.parametrize(
    ("method", "doing"), [("step", "in one step"), ("admit", "taking a request in")]
)
def test_a_hang_in_a_call_is_seen_by_both_and_ready_fails_first(
    hanging, method: str, doing: str
) -> None:
    server = hanging(f"{method}:hang~badword", max_step_s=2.0)
    with call(server, "badword"):
        assert settle(lambda: tells(server, "/readyz", doing))
        alive = probe(server, "/livez")[0] == 200
        assert alive or server.service.lifecycle.late(), "/livez failed too early"
        assert settle(lambda: tells(server, "/livez", doing))
    server.engine.faults.let_go()
    assert settle(lambda: probe(server, "/livez")[0] == probe(server, "/readyz")[0] == 200)


@pytest.mark.parametrize(
    ("lasted_s", "ready", "alive"), [(49.0, 200, 200), (60.0, 503, 200), (130.0, 503, 503)]
)
def test_ready_fails_at_half_of_a_limit_and_alive_at_the_whole(
    serve, lasted_s: float, ready: int, alive: int
) -> None:
    server = serve()
    began_s = time.monotonic() - lasted_s
    server.service.lifecycle.watch(lambda: Activity("at it", 100.0, began_s))
    assert probe(server, "/readyz")[0] == ready
    assert probe(server, "/livez")[0] == alive
    assert server.client.get("/health").status_code == ready


def test_a_release_that_hangs_is_seen_by_both(hanging) -> None:
    server = hanging("release:hang~badword", max_step_s=0.2)
    with call(server, "badword " * 400):  # more than is spoken before the caller hangs up
        assert settle(lambda: server.engine.steps > 3)
    for path in ("/readyz", "/livez"):
        assert settle(lambda path=path: tells(server, path, "freeing a slot"))


def test_a_first_load_that_hangs_is_not_alive(hanging) -> None:
    server = hanging("load:hang", wait=False, max_load_s=0.2)
    assert settle(lambda: tells(server, "/livez", "loading the model"))
    assert probe(server, "/readyz") == (503, "The engine is still loading.")


@pytest.mark.parametrize("fault", ["load:hang@2", "voices:hang@2"])
def test_a_reload_that_hangs_is_seen_by_both(hanging, fault: str) -> None:
    server = hanging(fault, idle_timeout_s=0.05, max_load_s=0.2)
    assert settle(lambda: server.service.lifecycle.state == "unloaded")
    with call(server, "hello"):
        for path in ("/readyz", "/livez"):
            assert settle(lambda path=path: tells(server, path, "loading the model"))


def test_an_unload_that_hangs_is_seen_by_both(hanging) -> None:
    server = hanging("unload:hang", idle_timeout_s=0.05, max_unload_s=0.2)
    for path in ("/readyz", "/livez"):
        assert settle(lambda path=path: tells(server, path, "unloading the model"))


def test_a_clone_that_hangs_is_seen_by_both(hanging) -> None:
    server = hanging("", max_clone_s=0.2)
    began_s = time.monotonic()
    server.service.cloning = Cloning(began_s)
    for path in ("/readyz", "/livez"):
        assert settle(lambda path=path: tells(server, path, "cloning a voice"))
    server.service.cloning = SimpleNamespace(longest_s=0.0)
    assert settle(lambda: probe(server, "/livez")[0] == 200)


class Cloning:
    """As far as the probes need it."""

    def __init__(self, began_s: float) -> None:
        self._began_s = began_s

    @property
    def longest_s(self) -> float:
        return time.monotonic() - self._began_s


def test_who_comes_while_it_hangs_is_refused_at_once(hanging) -> None:
    server = hanging("step:hang~badword", max_step_s=0.2)
    with call(server, "badword"):
        assert settle(lambda: tells(server, "/livez", "in one step"))
        refused = server.speak()
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "unavailable"
    assert "in one step" in refused.json()["error"]["message"]
    assert int(refused.headers["retry-after"]) >= 1


def test_at_twice_its_limit_callers_are_told_and_the_engine_is_failed(serve) -> None:
    server = serve(max_step_s=0.3, fake={"fault": "step:hang~badword"})
    waiting = server.speak(input="badword")
    assert waiting.status_code == 503
    assert waiting.json()["error"]["code"] == "engine_failed"
    for path in PROBES:
        assert server.client.get(path).status_code == 503
    assert "given up" in probe(server, "/livez")[1]
    assert settle(lambda: server.idle)
    server.engine.faults.let_go()


FAULTS = (
    "admit:raise~badword", "admit:memory~badword", "admit:exit~badword", "admit:wrong~badword",
    "validate:raise@once", "step:shape~badword", "step:dtype~badword", "step:nan~badword",
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_one_callers_fault_is_theirs_alone_and_told_at_once(serve, fault: str) -> None:
    server = serve(fake={"fault": fault})
    began_s = time.monotonic()
    broken = server.speak(input=f"badword {SECRET}")
    assert broken.status_code == 500
    assert broken.json()["error"]["code"] == "engine_error"
    assert SECRET not in broken.text
    assert time.monotonic() - began_s < 10
    assert settle(lambda: server.idle)
    assert server.speak().status_code == 200
    for path in PROBES:
        assert server.client.get(path).status_code == 200


@pytest.mark.parametrize("kind", ["raise", "memory", "gpu_memory", "exit", "device"])
def test_nobodys_words_are_told_to_others(serve, kind: str, caplog) -> None:
    server = serve(fake={"fault": f"step:{kind}~badword"})
    answers = [server.speak(input=f"badword {SECRET}"), server.speak(input="Another caller.")]
    answers += [server.client.get(path) for path in PROBES]
    assert [answer.status_code for answer in answers] == [503] * 5
    for answer in answers:
        assert SECRET not in answer.text
        assert "told to" not in answer.text
    assert SECRET not in "".join(
        record.getMessage() for record in caplog.records if record.levelname != "DEBUG"
    )
    assert [record for record in caplog.records if record.levelname != "DEBUG" and record.exc_info
            and SECRET in str(record.exc_info[1])] == []  # fmt: skip


@pytest.mark.parametrize(
    "fault", ["voice_to_bytes:raise", "voice_to_bytes:wrong", "clone:raise", "clone:memory",
              "clone:exit", "clone:wrong"],
)  # fmt: skip
def test_a_voice_that_the_engine_fails_on_costs_that_upload_alone(
    serve, fault: str, wav_recording: bytes
) -> None:
    server = serve(fake={"fault": f"{fault}@once"})
    upload = {
        "data": {"name": "mine", "ref_text": SECRET},
        "files": {"audio_sample": ("a.wav", wav_recording)},
    }
    failed = server.client.post("/v1/audio/voices", **upload)
    assert failed.status_code == 500
    assert failed.json()["error"]["code"] == "engine_error"
    assert SECRET not in failed.text
    assert server.client.post("/v1/audio/voices", **upload).status_code == 200
    assert server.speak(voice="mine").status_code == 200


def test_a_saved_voice_that_the_engine_cannot_read_is_a_fault_of_that_request(
    serve, wav_recording: bytes
) -> None:
    server = serve(fake={"fault": "voice_from_bytes:raise@once"})
    upload = {"data": {"name": "mine"}, "files": {"audio_sample": ("a.wav", wav_recording)}}
    assert server.client.post("/v1/audio/voices", **upload).status_code == 200
    server.client.post("/cache/clear")
    assert server.speak(voice="mine").status_code == 500
    assert server.speak(voice="mine").status_code == 200


def test_an_unload_that_fails_is_said_by_every_probe(serve) -> None:
    server = serve(idle_timeout_s=0.05, fake={"fault": "unload:raise@once"})
    for path in PROBES:
        assert settle(lambda path=path: server.client.get(path).status_code == 503)
    assert "could not be unloaded" in probe(server, "/livez")[1]
    assert server.speak().json()["error"]["code"] == "engine_failed"


def test_a_load_that_fails_once_is_tried_again_by_the_next_caller(serve) -> None:
    server = serve(wait=False, preload_model=False, fake={"fault": "load:raise@once"})
    assert settle(lambda: probe(server, "/readyz")[0] == 200)
    failed = server.speak()
    assert failed.status_code == 500
    assert failed.json()["error"]["message"].startswith("The engine could not be loaded")
    assert server.speak().status_code == 200


def test_without_its_files_it_does_not_become_ready_and_says_why(
    serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vivavoce.testing.fake_engine import FakeEngine

    def missing(self: FakeEngine) -> None:
        raise ModelFileError("The model is not on this machine.")

    monkeypatch.setattr(FakeEngine, "check_files", missing)
    # The application alone: our own server ends with it.
    monkeypatch.setattr(DrainingServer, "_give_up", lambda server, error: None)
    server = serve(wait=False, preload_model=False)
    assert settle(lambda: "not on this machine" in probe(server, "/readyz")[1])
    assert probe(server, "/livez")[0] == 503
    assert server.speak().status_code == 503


def test_a_client_that_is_told_503_can_be_told_by_http(serve) -> None:
    """The answer is whole: a client that keeps the connection can go on with it."""
    server = serve(fake={"fault": "step:raise~badword"})
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for _ in range(3):
            answer = client.post("/v1/audio/speech", json={"input": "badword"})
            assert answer.status_code == 503
