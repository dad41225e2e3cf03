"""A whole server with Qwen3-TTS whose device is lost: callers are told, and the process ends."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from faults.processes import PATIENCE_S, ServerProcess

pytestmark = pytest.mark.timeout(300)

SCRIPT = Path(__file__).with_name("lost_process.py")
COMMAND = (sys.executable, str(SCRIPT), "serve")
TEXT = "A sentence that goes on for longer than a few frames."
BODY = {"input": TEXT, "options": {"max_frames": 900, "guards": False}}
PATHS = ("/v1/audio/speech/stream", "/v1/audio/speech/stream/pcm")


@dataclass
class Listener:
    """A call that is heard as it comes, and how it ended."""

    server: ServerProcess
    path: str
    seed: int
    began: threading.Event = field(default_factory=threading.Event)
    status: int = 0
    heard: bytes = b""
    cut_off: bool = False

    def listen(self) -> None:
        body = BODY | {"seed": self.seed, "voice": "ryan"}
        with httpx.Client(base_url=self.server.url, trust_env=False, timeout=PATIENCE_S) as client:
            try:
                with client.stream("POST", self.path, json=body) as answer:
                    self.status = answer.status_code
                    for piece in answer.iter_raw():
                        self.heard += piece
                        if self.path.endswith("pcm") or self.heard.count(b"data:") > 1:
                            self.began.set()
            except httpx.TransportError:
                self.cut_off = True
            finally:
                self.began.set()

    @property
    def told(self) -> bool:
        """Whether the caller knows that this was not all."""
        return self.cut_off or self.status == 503 or b"event: error" in self.heard


def server_of(model: Path, folder: Path, where: str, kind: str, rows: int) -> ServerProcess:
    plant = {"LOST_WHEN": str(folder / "lost"), "LOST_IN": where, "LOST_AS": kind}
    options = {"device": "cpu", "threads": 1, "positions": 1024, "capacity": rows}
    settings: dict[str, Any] = {f"qwen3.{name}": value for name, value in options.items()}
    return ServerProcess(
        folder,
        command=COMMAND,
        environment=plant | {"VIVAVOCE_ENGINE": "qwen3"},
        model_id=model,
        exit_on_failure="true",
        **settings,
    )


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("launch", "AcceleratorError"),
        pytest.param("launch", "RuntimeError", marks=SLOW),
        pytest.param("send", "AcceleratorError", marks=SLOW),
        pytest.param("start", "RuntimeError", marks=SLOW),
    ],
)
def test_a_lost_device_ends_the_process_and_everybody_is_told(
    where: str, kind: str, tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """Two in mid-call and one who waits; the process ends with a status of its own."""
    rows = len(PATHS) + (where == "start")
    server = server_of(tiny_checkpoint("0.6B-CustomVoice"), tmp_path, where, kind, rows)
    try:
        server.ready()
        speaking = [Listener(server, path, seed) for seed, path in enumerate(PATHS)]
        with ThreadPoolExecutor(len(PATHS) + 1) as threads:
            calls = [threads.submit(each.listen) for each in speaking]
            for each in speaking:
                assert each.began.wait(PATIENCE_S) and not each.cut_off, server.log
            late = Listener(server, "/v1/audio/speech", len(PATHS))
            if where == "start":  # it has a row, and its prompt is read first
                (tmp_path / "lost").touch()
            calls.append(threads.submit(late.listen))
            if where != "start":
                server.until(lambda: waiting(server) == 1)
                (tmp_path / "lost").touch()
            assert server.wait() == 70, server.log
            for call in calls:
                call.result(PATIENCE_S)
        for each in (*speaking, late):
            assert each.told, (each.path, each.status, each.heard[-300:])
        assert all(each.status == 200 and each.heard for each in speaking)
        assert server.log.splitlines()[-1].startswith("vivavoce: ")
        assert "Traceback" not in server.log
    finally:
        server.end()


def waiting(server: ServerProcess) -> int:
    health = httpx.get(f"{server.url}/health", trust_env=False, timeout=PATIENCE_S).json()
    return int(health["queue_depth"])
