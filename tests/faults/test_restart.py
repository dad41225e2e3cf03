"""Killed at any moment and started again: saved voices are whole; folders that cannot be written
cost what needs them, and nothing else."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from faults.processes import PATIENCE_S, ServerProcess, server_process
from quality.live import settled
from vivavoce.audio.encode import wav_file


def recording(seed: int) -> bytes:
    noise = np.random.default_rng(seed).standard_normal(48_000) * 0.2
    return wav_file(noise.astype(np.float32), 24_000)


def save(server: ServerProcess, name: str, seed: int) -> httpx.Response:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=PATIENCE_S) as client:
        return client.post(
            "/v1/audio/voices",
            data={"name": name, "consent": "yes"},
            files={"audio_sample": ("a.wav", recording(seed))},
        )


def listed(server: ServerProcess) -> set[str]:
    answer = httpx.get(f"{server.url}/v1/audio/voices", trust_env=False, timeout=PATIENCE_S)
    assert answer.status_code == 200
    return {voice["id"] for voice in answer.json()["voices"] if voice["kind"] == "cloned"}


def save_until_killed(server: ServerProcess, prefix: str, told: set[str]) -> None:
    """Save one voice after the other; names that the server said it has saved."""
    for number in range(10_000):
        name = f"{prefix}-{number}"
        try:
            if save(server, name, number).status_code == 200:
                told.add(name)
        except httpx.TransportError:
            return


def kill_while_saving(folder: Path, prefix: str, told: set[str]) -> None:
    with server_process(folder) as server:
        server.ready()
        thread = threading.Thread(target=save_until_killed, args=(server, prefix, told))
        thread.start()
        before = len(told)
        settled(lambda: len(told), lambda count: count > before + 2, PATIENCE_S)
        server.process.send_signal(signal.SIGKILL)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def check_all_speak(folder: Path, told: set[str]) -> None:
    with server_process(folder) as server:
        server.ready()
        found = listed(server)
        assert told <= found, "what was said to be saved is there"
        for name in found:
            assert server.speak("hello", voice=name).status_code == 200


def test_a_kill_while_voices_are_saved_leaves_whole_ones(tmp_path: Path) -> None:
    told: set[str] = set()
    kill_while_saving(tmp_path, "once", told)
    assert told
    check_all_speak(tmp_path, told)


@pytest.mark.slow
def test_many_kills_while_voices_are_saved_leave_whole_ones(tmp_path: Path) -> None:
    told: set[str] = set()
    for number in range(6):
        kill_while_saving(tmp_path, f"time{number}", told)
    check_all_speak(tmp_path, told)


def refused(server: ServerProcess, folder: Path) -> None:
    """Nothing can be saved, which is said without a path; everything else works."""
    answer = save(server, "mine", 1)
    assert answer.status_code >= 500
    assert answer.json()["error"]["code"]
    assert str(folder) not in answer.text
    assert listed(server) == set()
    assert server.speak("hello").status_code == 200
    assert server.probe("/readyz") == 200


def test_a_data_folder_that_cannot_be_made_costs_saving_alone(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with server_process(blocked) as server:
        server.ready()
        refused(server, blocked)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_data_folder_that_is_read_only_costs_saving_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with server_process(tmp_path) as server:
            server.ready()
            refused(server, tmp_path)
    finally:
        tmp_path.chmod(0o700)


def speaks_without_cache(cache: Path, folder: Path, **more: Any) -> None:
    environment = {"VIVAVOCE_CACHE_DIR": str(cache)}
    with server_process(folder, "--engine", "piper", environment=environment, **more) as server:
        server.ready()
        assert len(server.speak("Hello.").content) > 10_000
        assert server.logged("cannot be kept")


@pytest.mark.slow
def test_a_cache_that_cannot_be_made_costs_time_alone(tmp_path: Path) -> None:
    pytest.importorskip("piper")
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    speaks_without_cache(blocked, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_cache_that_is_read_only_costs_time_alone(tmp_path: Path) -> None:
    pytest.importorskip("piper")
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o500)
    speaks_without_cache(cache, tmp_path)
