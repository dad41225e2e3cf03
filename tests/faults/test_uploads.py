"""What a recording does, it does to its own upload: nothing and nobody beside it feels it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from audio import recordings
from audio.sounds import tone
from faults.inprocess import InnerServer, serving_here
from faults.rawcalls import connection
from faults.uploads import CLONE, VOICES, upload, upload_request
from quality.live import (
    START_LIMIT_S,
    LiveServer,
    clean_environment,
    free_port,
    serving,
    settled,
)
from vivavoce.speech import folder_files, folder_index
from vivavoce.types import ReferenceAudio, Voice

WAV = recordings.recording("wav")
SAY = {"input": "A good call is not disturbed.", "response_format": "pcm"}
DRAIN_S = 2.0


def client_of(server: InnerServer | LiveServer) -> httpx.Client:
    return httpx.Client(base_url=server.url, trust_env=False, timeout=60)


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    with serving("fake") as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[InnerServer]:
    with serving_here(tmp_path, capacity=2, max_queue_depth=8) as inner:
        yield inner


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in found for word in path.read_text().split()]


def rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


# Recordings that ended the process.


@pytest.mark.parametrize("path", [CLONE, VOICES])
@pytest.mark.parametrize(
    ("muxer", "codec", "rate_hz"),
    [
        ("flac", "flac", 24_000),
        ("wav", "pcm_f32le", 48_000),
        ("ogg", "libopus", 48_000),
        ("ipod", "aac", 24_000),
        ("flac", "flac", 192_000),
    ],
)
def test_eight_channels_end_no_server(
    live: LiveServer, path: str, muxer: str, codec: str, rate_hz: int
) -> None:
    data = recordings.written(muxer, codec, tone(1.0, rate_hz), rate_hz, "7.1")
    name = f"{muxer} {rate_hz}"
    with client_of(live) as client:
        assert upload(client, path, data, name).status_code == 200
        assert client.post("/v1/audio/speech", json=SAY).status_code == 200
    assert live.process.poll() is None


@pytest.mark.parametrize("path", [CLONE, VOICES])
def test_a_frame_with_47_channels_ends_no_server(live: LiveServer, path: str) -> None:
    with client_of(live) as client:
        answer = upload(client, path, recordings.CHANGING_CHANNELS)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "invalid_audio"
        assert client.post("/v1/audio/speech", json=SAY).status_code == 200
    assert live.process.poll() is None


@pytest.mark.parametrize("fault", [b"crash", b"raise", b"exit", b"memory", b"chatter", b"long"])
def test_whatever_a_decoder_does_costs_that_upload_alone(server: InnerServer, fault: bytes) -> None:
    pool = server.service.cloning.decoder.pool
    pool._module = "runtime.faulty_child"
    with client_of(server) as client, client_of(server) as other:
        with ThreadPoolExecutor(1) as beside:
            calling = beside.submit(other.post, "/v1/audio/speech", json=SAY)
            answer = upload(client, CLONE, fault)
            assert calling.result().status_code == 200
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("invalid_audio", "file")
        for worker in list(pool._free):
            worker.kill()
        settled(lambda: [w for w in pool._free if w.process.returncode is None], lambda s: not s)
        pool._module = "vivavoce.runtime.decoding_child"
        assert upload(client, CLONE, WAV).status_code == 200


def test_a_decoder_that_does_not_start_is_the_servers_fault_and_tells_no_path(
    server: InnerServer,
) -> None:
    server.service.cloning.decoder.pool._module = "vivavoce.runtime.nothing"
    with client_of(server) as client:
        answer = upload(client, CLONE, WAV)
        assert answer.status_code == 500
        assert "/" not in answer.json()["error"]["message"]
        assert client.post("/v1/audio/speech", json=SAY).status_code == 200


# The process that decodes.


def test_it_starts_with_the_first_upload_and_ends_with_the_server() -> None:
    with serving("fake") as server:
        pid = server.process.pid
        assert children(pid) == []
        with client_of(server) as client:
            assert client.post("/v1/audio/speech", json=SAY).status_code == 200
            assert children(pid) == []
            assert upload(client, CLONE, WAV).status_code == 200
        (worker,) = children(pid)
    assert settled(lambda: gone(worker), bool)


def test_it_ends_with_a_server_that_is_killed() -> None:
    with serving("fake") as server:
        with client_of(server) as client:
            assert upload(client, CLONE, WAV).status_code == 200
        (worker,) = children(server.process.pid)
        server.process.kill()
        server.process.wait()
        assert settled(lambda: gone(worker), bool)


def test_it_ends_when_it_is_idle_and_comes_back(server: InnerServer) -> None:
    pool = server.service.cloning.decoder.pool
    pool._idle_s = 0.2
    with client_of(server) as client:
        for name in ("anna", "bert"):
            assert upload(client, VOICES, WAV + name.encode(), name).status_code == 200
            assert settled(lambda: pool.pids, lambda pids: pids == []) == []
    assert pool.started == 2


def test_a_signal_to_the_whole_group_leaves_the_upload_that_runs(tmp_path: Path) -> None:
    """As a terminal or a service manager sends it: the drain finishes what has begun."""
    with serving("fake", {"drain_timeout_s": 20}) as server, client_of(server) as client:
        upload(client, CLONE, WAV)
        (worker,) = children(server.process.pid)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(worker, number)
        assert upload(client, VOICES, WAV + b"another").status_code == 200
        assert children(server.process.pid) == [worker]


# Memory.


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_small_uploads_of_long_silence_hold_no_memory() -> None:
    silence = np.zeros(59 * 192_000, np.float32)
    data = recordings.written("flac", "flac", silence, 192_000)
    assert len(data) < 40_000
    with serving("fake") as server:
        pid = server.process.pid
        with client_of(server) as client:
            upload(client, CLONE, WAV)
        before_mb = rss_mb(pid)
        most_mb: list[float] = []
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.02):
                most_mb.append(rss_mb(pid))

        watching = threading.Thread(target=watch)
        watching.start()

        def send(_: int) -> int:
            with client_of(server) as client:
                return upload(client, CLONE, data).status_code

        with ThreadPoolExecutor(30) as callers:
            statuses = list(callers.map(send, range(30)))
        done.set()
        watching.join()
        assert set(statuses) == {400}, "silence is no voice"
        assert max(most_mb) - before_mb < 120
        after_mb = settled(lambda: rss_mb(pid), lambda now: now - before_mb < 60)
        assert after_mb - before_mb < 60


# Admission, hang-ups, and cloning that does not end.


class Gate:
    """An engine's ``clone`` that waits, and counts."""

    def __init__(self, engine: Any) -> None:
        self._real = engine.clone
        self.open = threading.Event()
        self.now = self.most = 0
        engine.clone = self.clone

    def clone(self, reference: ReferenceAudio) -> Voice:
        self.now += 1
        self.most = max(self.most, self.now)
        self.open.wait(60)
        self.now -= 1
        made: Voice = self._real(reference)
        return made


@pytest.fixture
def gate(server: InnerServer) -> Iterator[Gate]:
    made = Gate(server.engine)
    yield made
    made.open.set()


def taken(server: InnerServer) -> tuple[int, int]:
    return server.service.admission.running, server.service.admission.waiting


async def hang_up_on(port: int, requests: list[bytes], when: Any) -> None:
    """Send requests, wait until ``when()``, and hang up on all."""
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        leave = asyncio.Event()

        async def call(request: bytes) -> None:
            async with connection(port, reset=True) as (_, writer):
                writer.write(request)
                await writer.drain()
                await leave.wait()

        for request in requests:
            group.create_task(call(request))
        while not await asyncio.to_thread(when):  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.01)
        leave.set()


@pytest.mark.parametrize("path", [CLONE, VOICES])
def test_uploads_that_nobody_waits_for_hold_no_place_and_save_nothing(
    server: InnerServer, gate: Gate, path: str
) -> None:
    requests = [
        upload_request(path, recordings.recording("wav", 1 + 0.01 * number), f"voice{number}")
        for number in range(10)
    ]
    asyncio.run(
        hang_up_on(server.port, requests, lambda: taken(server) == (2, 8) and gate.now == 2)
    )
    # The two whose threads run keep their slots until these have ended; nobody waits behind them.
    assert settled(lambda: taken(server), lambda seen: seen[1] == 0)[1] == 0
    assert taken(server)[0] == gate.now == 2
    gate.open.set()
    assert settled(lambda: taken(server), lambda seen: seen == (0, 0)) == (0, 0)
    with client_of(server) as client:
        listed = client.get(VOICES).json()["voices"]
        assert [voice["id"] for voice in listed if voice["kind"] == "cloned"] == []
        assert client.post("/v1/audio/speech", json=SAY).status_code == 200


def test_an_upload_takes_a_place_or_is_refused_before_it_is_decoded(
    server: InnerServer, gate: Gate
) -> None:
    first = [
        upload_request(CLONE, recordings.recording("wav", 1 + 0.01 * number))
        for number in range(10)
    ]
    started: list[int] = []

    def full() -> bool:
        if taken(server) != (2, 8):
            return False
        with client_of(server) as client:
            for path in (CLONE, VOICES):
                answer = upload(client, path, recordings.recording("flac"), "anna")
                assert answer.status_code == 429
                assert answer.headers["retry-after"]
        started.append(server.service.cloning.decoder.pool.started)
        return True

    asyncio.run(hang_up_on(server.port, first, full))
    assert started[0] <= 2
    gate.open.set()
    assert settled(lambda: taken(server), lambda seen: seen == (0, 0)) == (0, 0)


def test_an_upload_waits_no_longer_than_a_request_may_take(tmp_path: Path) -> None:
    with (
        serving_here(tmp_path, capacity=1, request_timeout_s=2.0) as server,
        client_of(server) as client,
        ThreadPoolExecutor(2) as callers,
    ):
        # On a busy machine a decoder may take longer to start than this request may.
        began = lambda: upload(client, CLONE, recordings.recording("flac")).status_code  # noqa: E731
        assert settled(began, lambda status: status == 200) == 200
        gate = Gate(server.engine)
        first = callers.submit(upload, client, CLONE, WAV)
        assert settled(lambda: gate.now, lambda now: now == 1) == 1
        second = callers.submit(upload, client, VOICES, WAV + b"2")
        for calling in (first, second):
            answer = calling.result()
            assert answer.status_code == 504
            assert answer.json()["error"]["code"] == "deadline_exceeded"
        assert taken(server) == (1, 0)
        gate.open.set()
        assert settled(lambda: taken(server), lambda seen: seen == (0, 0)) == (0, 0)
        assert upload(client, CLONE, WAV).status_code == 200


def test_callers_who_leave_leave_no_more_clones_than_slots(server: InnerServer, gate: Gate) -> None:
    pool = server.service.cloning.decoder.pool
    pool._idle_s = 0.2
    gate.open.set()
    with client_of(server) as client:  # threads that come with the first upload stay
        assert upload(client, VOICES, recordings.recording("flac")).status_code == 200
    assert settled(lambda: pool.pids, lambda pids: pids == []) == []
    before = server.residue()
    gate.open.clear()
    for number in range(6):
        request = upload_request(CLONE, recordings.recording("wav", 1 + 0.01 * number))
        reached = (
            (lambda number=number: gate.now == number + 1)
            if number < 2
            else (lambda: taken(server) == (2, 1))
        )
        asyncio.run(hang_up_on(server.port, [request], reached))
        assert settled(lambda: taken(server)[1], lambda waiting: waiting == 0) == 0
    assert gate.most <= 2
    gate.open.set()
    assert settled(lambda: taken(server), lambda seen: seen == (0, 0)) == (0, 0)
    with client_of(server) as client:
        assert upload(client, CLONE, WAV).status_code == 200
    after = settled(server.residue, lambda seen: seen.within(before))
    assert after.within(before), f"{after} is left, where there was {before}"


HANGING = """
import sys, threading
from vivavoce.testing.fake_engine import FakeEngine
from vivavoce.serving.server import run
from vivavoce.settings import Settings
FakeEngine.clone = lambda self, reference: threading.Event().wait()
run(Settings(engine="fake", port=int(sys.argv[1]), data_dir=sys.argv[2],
             drain_timeout_s=float(sys.argv[3])))
"""


@pytest.mark.parametrize("stays", [True, False], ids=["its caller waits", "its caller left"])
def test_a_clone_that_hangs_keeps_no_process_from_ending(tmp_path: Path, stays: bool) -> None:
    port = free_port()
    path = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, str(port), str(tmp_path), str(DRAIN_S)],
        stderr=subprocess.DEVNULL,
        env=clean_environment(PYTHONPATH=path),
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            _await_ready(client)
            limit_s = 60.0 if stays else 1.0

            def call() -> None:
                with contextlib.suppress(httpx.TransportError):
                    assert upload(client, CLONE, WAV).status_code >= 500

            client.timeout = httpx.Timeout(limit_s)
            calling = threading.Thread(target=call)
            calling.start()
            if stays:
                with httpx.Client(base_url=client.base_url, trust_env=False) as other:
                    settled(
                        lambda: other.get("/health").json()["running"], lambda count: count == 1
                    )
            else:
                calling.join()
            process.send_signal(signal.SIGTERM)
            began_s = time.monotonic()
            process.wait(DRAIN_S + 15)
            assert time.monotonic() - began_s < DRAIN_S + 15
            calling.join()
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def _await_ready(client: httpx.Client) -> None:
    def ready() -> bool:
        try:
            return client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    assert settled(ready, bool, START_LIMIT_S)


# Saved voices: disks, damage, and servers that share a folder.


def test_a_full_disk_is_a_507_that_leaves_nothing(
    server: InnerServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with client_of(server) as client:
        with monkeypatch.context() as patch:
            patch.setattr(folder_files.os, "fsync", full)
            answer = upload(client, VOICES, WAV)
            assert client.post("/v1/audio/speech", json=SAY).status_code == 200
        assert answer.status_code == 507
        assert answer.json()["error"]["code"] == "storage_full"
        assert str(tmp_path) not in answer.text
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        assert upload(client, VOICES, WAV).status_code == 200


def test_no_room_for_a_large_upload_is_a_507(
    server: InnerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with client_of(server) as client:
        with monkeypatch.context() as patch:
            patch.setattr("starlette.datastructures.UploadFile.write", full)
            for path in (CLONE, VOICES):
                answer = upload(client, path, bytes(2 * 1024 * 1024))
                assert answer.status_code == 507
                assert answer.json()["error"]["code"] == "storage_full"
        assert upload(client, CLONE, WAV).status_code == 200


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_said_so(server: InnerServer, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with client_of(server) as client:
            answer = upload(client, VOICES, WAV)
            assert answer.status_code == 500
            assert answer.json()["error"]["code"] == "storage_error"
            assert str(tmp_path) not in answer.text
    finally:
        tmp_path.chmod(0o755)


def test_damaged_voices_are_listed_by_nobody_and_tell_no_path(tmp_path: Path) -> None:
    folder = tmp_path / "voices" / "fake"
    folder.mkdir(parents=True)
    good = {"languages": [], "description": "", "created_at_s": 7}
    contents: dict[str, str] = {
        "nan.json": json.dumps(good | {"created_at_s": float("nan")}),
        "nan.voice": '{"pitch_hz": 200.0}',
        "alone.voice": '{"pitch_hz": 200.0}',
        "bare.json": json.dumps(good),
        "bad name.json": json.dumps(good),
        "state.json": json.dumps(good),
        "state.voice": "garbage",
        "half.json": '{"languages": [',
        "half.voice": "",
        "tmpa1b2c3d4": "",
        "whole.json": json.dumps(good),
        "whole.voice": '{"pitch_hz": 200.0}',
    }
    for name, text in contents.items():
        (folder / name).write_text(text)
    with serving_here(tmp_path) as server, client_of(server) as client:
        for name in ("nan", "alone", "bare", "bad name", "state", "half"):
            answer = client.post("/v1/audio/speech", json=SAY | {"voice": name})
            assert answer.status_code in (400, 500)
            assert str(tmp_path) not in answer.text
        listed = client.get(VOICES)
        assert listed.status_code == 200
        cloned = [voice["id"] for voice in listed.json()["data"] if voice["kind"] == "cloned"]
        assert cloned == ["whole"]
        for name in ("nan", "alone", "bare", "bad name", "state", "half", "whole"):
            assert client.delete(f"{VOICES}/{name}").status_code == 200
            assert client.delete(f"{VOICES}/{name}").status_code == 404
    assert list(folder.iterdir()) == []


def test_two_servers_on_one_folder_speak_as_the_same_person(tmp_path: Path) -> None:
    with (
        serving_here(tmp_path, audio_cache_max=64) as one,
        serving_here(tmp_path, audio_cache_max=64) as other,
        client_of(one) as here,
        client_of(other) as there,
    ):
        say = SAY | {"voice": "anna"}
        assert upload(here, VOICES, recordings.recording("wav", 1.0)).status_code == 200
        first = [client.post("/v1/audio/speech", json=say).content for client in (here, there)]
        assert first[0] == first[1]
        assert there.delete(f"{VOICES}/anna").status_code == 200
        assert here.post("/v1/audio/speech", json=say).status_code == 400
        assert upload(there, VOICES, recordings.recording("wav", 1.5)).status_code == 200
        again = [client.post("/v1/audio/speech", json=say).content for client in (here, there)]
        assert again[0] == again[1] != first[0]


def test_a_name_saved_on_two_servers_at_once_is_given_to_one(tmp_path: Path) -> None:
    with (
        serving_here(tmp_path) as one,
        serving_here(tmp_path) as other,
        client_of(one) as here,
        client_of(other) as there,
        ThreadPoolExecutor(2) as callers,
    ):
        for client in (here, there):
            # FastAPI puts a route together at its first request: two threads not at once.
            first = upload(client, VOICES, WAV, f"first of {client.base_url.port}")
            assert first.status_code == 200
        for number in range(20):
            sent = [
                callers.submit(upload, client, VOICES, WAV + bytes([at]), f"voice{number}")
                for at, client in enumerate((here, there))
            ]
            assert sorted(each.result().status_code for each in sent) == [200, 409]


def test_two_thousand_voices_cost_a_request_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "voices" / "fake"
    folder.mkdir(parents=True)
    for number in range(2_000):
        about = {"languages": [], "description": "x" * 200, "created_at_s": number}
        (folder / f"voice{number:04}.json").write_text(json.dumps(about))
        (folder / f"voice{number:04}.voice").write_text('{"pitch_hz": 200.0}')
    old = time.time() - 60
    os.utime(folder, (old, old))
    reads: list[Path] = []
    real = folder_files.read_description
    monkeypatch.setattr(
        folder_index, "read_description", lambda path: reads.append(path) or real(path)
    )
    with serving_here(tmp_path) as server, client_of(server) as client:
        assert len(reads) == 2_000, "at the start, and by no request"
        scans: list[str] = []
        scandir = os.scandir
        monkeypatch.setattr(os, "scandir", lambda path: scans.append(path) or scandir(path))
        for _ in range(5):
            assert client.get("/health").status_code == 200
            assert len(client.get(VOICES).json()["voices"]) > 2_000
            unknown = client.post("/v1/audio/speech", json=SAY | {"voice": "nobody"})
            assert unknown.status_code == 400
            assert len(unknown.content) < 2_000
            assert client.post("/v1/audio/speech", json=SAY | {"voice": "voice0007"}).is_success
        assert (len(reads), scans) == (2_000, [])
