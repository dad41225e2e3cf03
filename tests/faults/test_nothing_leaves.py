"""Nothing leaves the machine that its owner did not ask for, nor stays in the home folder.

A library of ours stands before the C library's resolver and sockets (``network_shim.c``), so that
it hears what compiled code asks for, too; the processes it watches can reach nobody.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from quality.live import COMMAND, STOP_LIMIT_S, clean_environment, free_port, settled
from vivavoce.runtime.onnx import TELEMETRY_OFF

SHIM = Path(__file__).with_name("network_shim.c")
MAKERS_HOST = ".microsoft.com"
UPLOAD_LIMIT_S = 60.0
TEXT = "Nothing of this is for anybody else."

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the shim is made for Linux"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc makes the shim"),
]
needs_piper = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnxruntime", "piper")), reason="needs extra piper"
)


class Watched:
    """Where a watched process lives: a home of its own, and a log of what it asked the network."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.log = folder / "network.log"
        self._shim = shim

    def environment(self, **more: str) -> dict[str, str]:
        # Libraries that phone home often keep still where they find themselves in a CI.
        dropped = ("CI", TELEMETRY_OFF, "VIVAVOCE_CACHE_DIR", "PYTHONPYCACHEPREFIX")
        kept = {
            name: value
            for name, value in clean_environment().items()
            if name not in dropped and not name.startswith(("XDG_", "HF_", "GITHUB_"))
        }
        own = {
            "HOME": str(self.home),
            "NETWORK_LOG": str(self.log),
            "LD_PRELOAD": str(self._shim),
        }
        return kept | own | more

    def asked(self) -> list[str]:
        """What left, or would have."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def left_in_home(self) -> list[str]:
        """Every file of the home folder."""
        found = (path for path in self.home.rglob("*") if not path.is_dir())
        return sorted(str(path.relative_to(self.home)) for path in found)


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shim") / "network_shim.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(made), str(SHIM)]
    subprocess.run([*command, "-ldl"], check=True)
    return made


@pytest.fixture
def watched(shim: Path, tmp_path: Path) -> Watched:
    return Watched(tmp_path / "watched", shim)


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_LIMIT_S)


def only_ours(files: list[str]) -> bool:
    """Whether all of them lie in the two folders that docs/operations.md names."""
    folders = (".cache/vivavoce/", ".local/share/vivavoce/")
    return all(file.startswith(folders) for file in files)


def test_the_shim_hears_names_and_addresses(watched: Watched) -> None:
    code = """
import socket
for ask in (
    lambda: socket.getaddrinfo("somebody.example", 443),
    lambda: socket.gethostbyname("somebody.else.example"),
    lambda: socket.create_connection(("192.0.2.1", 443)),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.2", 53)),
):
    try:
        ask()
    except OSError:
        pass
    else:
        raise SystemExit("it got out")
socket.getaddrinfo("127.0.0.1", 1)
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    subprocess.run(command, env=watched.environment(), check=True)
    assert [line.split()[1] for line in watched.asked()] == [
        "somebody.example",
        "somebody.else.example",
        "192.0.2.1",
        "192.0.2.2",
    ]


@needs_piper
def test_a_sentence_leaves_nothing_in_the_home_folder_but_what_is_said(
    watched: Watched, tmp_path: Path
) -> None:
    sound = tmp_path / "sound.wav"
    command = [*COMMAND, "say", TEXT, "-o", str(sound)]
    subprocess.run(command, env=watched.environment(), check=True, timeout=100)
    assert sound.stat().st_size > 10_000
    assert only_ours(watched.left_in_home()), watched.left_in_home()
    assert watched.asked() == []


@needs_piper
@pytest.mark.slow
def test_a_whole_start_and_a_sentence_ask_no_resolver_and_no_address(
    shim: Path, tmp_path: Path
) -> None:
    """As long as ONNX Runtime, left alone beside it, takes until it asks for its maker's host."""
    alone, server = Watched(tmp_path / "alone", shim), Watched(tmp_path / "server", shim)
    port = free_port()
    telling = [sys.executable, "-c", "import onnxruntime, time; time.sleep(600)"]
    serving = [*COMMAND, "serve", "--port", str(port)]
    with (
        running(telling, alone.environment(**{TELEMETRY_OFF: "0"})),
        running(serving, server.environment()) as process,
    ):
        url = f"http://127.0.0.1:{port}"
        assert settled(lambda: _status(f"{url}/readyz"), lambda seen: seen == 200, 60.0) == 200
        body = {"input": TEXT, "response_format": "mp3"}
        answer = httpx.post(f"{url}/v1/audio/speech", json=body, trust_env=False, timeout=60)
        assert len(answer.raise_for_status().content) > 1_000
        if tuple(int(part) for part in version("onnxruntime").split(".")[:2]) >= (1, 29):
            heard = settled(alone.asked, bool, UPLOAD_LIMIT_S)
            assert heard, "ONNX Runtime phones home no more: this test has lost its measure"
            assert all(line.endswith(MAKERS_HOST) for line in heard)
            assert not only_ours(alone.left_in_home())
        assert process.poll() is None
        assert server.asked() == []
        assert only_ours(server.left_in_home()), server.left_in_home()


def _status(url: str) -> int:
    try:
        return httpx.get(url, trust_env=False).status_code
    except httpx.TransportError:
        return 0


def test_the_owner_may_ask_for_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from vivavoce.runtime.onnx import *; switch_telemetry_off(); import os, json;"
    code += "print(json.dumps(os.environ.get(TELEMETRY_OFF)))"
    told = []
    for chosen in ({}, {TELEMETRY_OFF: "0"}):
        environment = {k: v for k, v in os.environ.items() if k != TELEMETRY_OFF} | chosen
        command = [sys.executable, "-c", code]
        run = subprocess.run(command, env=environment, check=True, capture_output=True)
        told.append(json.loads(run.stdout))
    assert told == ["1", "0"]
