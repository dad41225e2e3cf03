"""A supervised server that fails is started again; meanwhile nobody waits."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from faults.processes import PATIENCE_S, ServerProcess, server_process
from faults.test_process_end import LONG, PACED, calling, running
from quality.live import settled

SUPERVISE = "--supervise"


def child_of(server: ServerProcess) -> int:
    """The server's own process; 0 where there is none."""
    tasks = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    found = tasks.read_text().split()
    return int(found[0]) if found else 0


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_crash_in_mid_call_costs_that_call_and_the_next_is_served(tmp_path: Path) -> None:
    with server_process(tmp_path, SUPERVISE, **PACED) as server:
        server.ready()
        first, port = child_of(server), server.port
        body = {"input": LONG, "response_format": "pcm"}
        with calling(server, "/v1/audio/speech", json=body) as ended:
            running(server)
            os.kill(first, signal.SIGKILL)
        assert isinstance(ended[0], httpx.RemoteProtocolError), "the cut is visible"
        refused = server.speak("hello")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        with pytest.raises(InvalidStatus) as upgrade:
            connect(f"ws://127.0.0.1:{port}/v1/audio/speech/ws", proxy=None)
        assert upgrade.value.response.status_code == 503
        server.until(lambda: server.probe("/readyz") == 200)
        assert server.speak("hello").status_code == 200
        assert child_of(server) not in (0, first)
        (line,) = server.logged("the server ended")
        assert (line["status"], line["again_in_s"]) == (-signal.SIGKILL, 0.0)


def test_a_hang_in_mid_call_ends_it_for_everybody_and_the_next_is_served(tmp_path: Path) -> None:
    settings = {"fake.fault": "step:hang~hangword", "max_step_s": 0.5, "fake.step_ms": 1}
    with server_process(tmp_path, SUPERVISE, **settings) as server:
        server.ready()
        first = child_of(server)
        refused = server.speak("hangword")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "engine_failed"
        server.until(lambda: child_of(server) not in (0, first))
        server.until(lambda: server.probe("/readyz") == 200)
        assert server.speak("hello").status_code == 200
        assert server.logged("the server ended")[0]["status"] == 70


@pytest.mark.slow
def test_a_process_that_is_frozen_is_killed(tmp_path: Path) -> None:
    """Nothing in it can notice that it stands still, as where native code holds the interpreter."""
    with server_process(tmp_path, SUPERVISE, max_step_s=0.1) as server:
        server.ready()
        first = child_of(server)
        os.kill(first, signal.SIGSTOP)
        server.until(lambda: child_of(server) not in (0, first))
        server.until(lambda: server.probe("/readyz") == 200)
        assert server.logged("no sign of life")


def test_a_server_that_can_never_speak_is_not_started_again(tmp_path: Path) -> None:
    settings = {"piper.model": tmp_path / "none.onnx"}
    with server_process(tmp_path, SUPERVISE, "--engine", "piper", **settings) as server:
        assert server.wait() == 3
        lines = server.log.splitlines()
        assert lines[-1].startswith("vivavoce: ")
        assert "none.onnx" in lines[-1]


@pytest.mark.slow
def test_a_server_that_keeps_failing_is_started_less_and_less_often(tmp_path: Path) -> None:
    with server_process(tmp_path, SUPERVISE, **{"fake.fault": "step:raise"}) as server:
        server.until(lambda: len(server.logged("the server ended")) >= 4)
        pauses = [line["again_in_s"] for line in server.logged("the server ended")]
        assert pauses[:4] == [0.0, 0.5, 1.0, 2.0]
        assert server.speak("hello").status_code == 503
        server.send_signal()
        assert server.wait() == 0


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_drains_the_server_and_ends_both(number: signal.Signals, tmp_path: Path) -> None:
    with server_process(tmp_path, SUPERVISE, **PACED) as server:
        server.ready()
        child = child_of(server)
        with calling(server, "/v1/audio/speech", json={"input": "one two three"}) as heard:
            running(server)
            server.send_signal(number)
            server.until(lambda: server.speak("no more").status_code == 503)
        assert heard[0][0] == 200
        assert server.wait() == 0
        assert gone(child)


@pytest.mark.slow
def test_a_second_signal_ends_both_at_once(tmp_path: Path) -> None:
    with server_process(tmp_path, SUPERVISE, drain_timeout_s=600, **PACED) as server:
        server.ready()
        with calling(server, "/v1/audio/speech", json={"input": LONG}):
            running(server)
            server.send_signal()
            server.until(lambda: server.speak("no more").status_code == 503)
            server.send_signal()
            assert server.wait() == 0


def test_a_signal_before_the_server_listens_ends_both(tmp_path: Path) -> None:
    with server_process(tmp_path, SUPERVISE) as server:
        server.until(lambda: child_of(server))
        child = child_of(server)
        server.send_signal()
        assert server.wait() == 0
        assert gone(child)


def test_without_a_configuration_file_a_hang_up_ends_both_as_it_ends_a_server_alone(
    tmp_path: Path,
) -> None:
    with server_process(tmp_path, SUPERVISE) as server, server_process(tmp_path) as alone:
        server.ready()
        alone.ready()
        child = child_of(server)
        server.send_signal(signal.SIGHUP)
        alone.send_signal(signal.SIGHUP)
        assert server.wait() == 128 + signal.SIGHUP
        assert alone.wait() == -signal.SIGHUP
        assert gone(child)


def test_with_a_configuration_file_a_hang_up_reads_keys_again_whenever_it_comes(
    tmp_path: Path,
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('engine = "fake"\n')
    with server_process(tmp_path, SUPERVISE, "--config", str(file)) as server:
        server.until(lambda: child_of(server))
        first = child_of(server)
        server.send_signal(signal.SIGHUP)  # at the very beginning of the server's process
        server.ready()
        server.until(lambda: server.logged("keys read again"))
        server.send_signal(signal.SIGHUP)
        server.until(lambda: len(server.logged("keys read again")) == 2)
        assert child_of(server) == first
        server.send_signal()
        assert server.wait() == 0


@pytest.mark.slow
def test_a_frozen_server_does_not_keep_the_supervisor(tmp_path: Path) -> None:
    with server_process(tmp_path, SUPERVISE, drain_timeout_s=0) as server:
        server.ready()
        child = child_of(server)
        os.kill(child, signal.SIGSTOP)
        since_s = server.send_signal()
        assert server.wait() == 128 + signal.SIGKILL
        assert time.monotonic() - since_s < PATIENCE_S
        assert gone(child)


@pytest.mark.slow
def test_without_its_supervisor_the_server_drains_and_ends(tmp_path: Path) -> None:
    with server_process(tmp_path, SUPERVISE, **PACED) as server:
        server.ready()
        child = child_of(server)
        with calling(server, "/v1/audio/speech", json={"input": "one two three"}) as heard:
            running(server)
            server.process.kill()
        assert heard[0][0] == 200
        assert settled(lambda: gone(child), bool, PATIENCE_S)


@pytest.mark.slow
def test_a_server_that_was_told_to_end_is_not_started_again(tmp_path: Path) -> None:
    with server_process(tmp_path, SUPERVISE) as server:
        server.ready()
        os.kill(child_of(server), signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.slow
def test_an_address_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with server_process(tmp_path, SUPERVISE) as server:
        second = ServerProcess(tmp_path, SUPERVISE, port=server.port)
        try:
            assert second.wait() == 3
            assert len(second.log.splitlines()) == 1
        finally:
            second.end()


def test_the_supervisor_stays_small(tmp_path: Path) -> None:
    with server_process(tmp_path, SUPERVISE) as server:
        server.ready()
        pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
        assert pages * os.sysconf("SC_PAGE_SIZE") < 60e6
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "numpy" not in maps
        assert json.loads(httpx.get(f"{server.url}/readyz").text)["status"] == "ready"
