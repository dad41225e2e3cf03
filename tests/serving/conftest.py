"""A real server on a free loopback port, in a thread, around a fake engine that tests can reach."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from vivavoce.serving.keys import KeyRing
from vivavoce.serving.server import DrainingServer, build_service, listen
from vivavoce.settings import Settings
from vivavoce.testing.fake_engine import FakeEngine

PATIENCE_S = 60.0


def settle(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> bool:
    """Wait until something is so."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        if condition():
            return True
        time.sleep(0.005)
    return condition()


class LiveServer:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.service = build_service(settings)
        assert isinstance(self.service.engine, FakeEngine)
        self.engine = self.service.engine
        self.server = DrainingServer(settings, self.service)
        self._listener = listen(settings)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self._listener]}, daemon=True
        )
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE_S, trust_env=False)

    def start(self, *, wait: bool = True) -> None:
        self._thread.start()
        if wait:
            assert settle(lambda: self.server.started and self.service.lifecycle.ready)
        else:
            assert settle(lambda: self.server.started)

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self._thread.join(PATIENCE_S)
        self._listener.close()
        assert not self._thread.is_alive()

    @property
    def ring(self) -> KeyRing:
        return self.server._context.ring

    @property
    def idle(self) -> bool:
        admission = self.service.admission
        return admission.running == 0 and admission.waiting == 0

    def speak(self, path: str = "/v1/audio/speech", **fields: Any) -> httpx.Response:
        return self.client.post(path, json={"input": "Hello there."} | fields)

    @contextmanager
    def socket(self, **options: Any) -> Iterator[ClientConnection]:
        url = f"ws://127.0.0.1:{self.port}/v1/audio/speech/ws"
        with connect(url, proxy=None, compression=None, **options) as connection:
            yield connection

    def raw_post(self, path: str, fields: dict[str, Any]) -> socket.socket:
        """Send a request over a bare socket, to be hung up on."""
        body = json.dumps(fields).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        raw.sendall(head.encode() + body)
        return raw

    def steps_stop(self) -> bool:
        """Whether the engine stands still."""
        before = self.engine.steps
        time.sleep(0.1)
        return self.engine.steps == before


def hear(connection: ClientConnection) -> tuple[list[dict[str, Any]], bytes]:
    """Events and sound until an utterance ends in some way."""
    events: list[dict[str, Any]] = []
    sound = bytearray()
    while True:
        message = connection.recv(timeout=PATIENCE_S)
        if isinstance(message, bytes):
            sound += message
            continue
        events.append(json.loads(message))
        if events[-1]["event"] != "start":
            return events, bytes(sound)


Serve = Callable[..., LiveServer]


@pytest.fixture(scope="session")
def no_settings_around() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VIVAVOCE_CONFIG", raising=False)
        yield


@pytest.fixture
def serve(tmp_path: Path, no_settings_around: None) -> Iterator[Serve]:
    """Start servers with settings of the test's own; ``fake`` are the engine's options."""
    running: list[LiveServer] = []

    def start(*, wait: bool = True, **settings: Any) -> LiveServer:
        settings.setdefault("data_dir", tmp_path)
        server = LiveServer(Settings(engine="fake", port=0, **settings))
        running.append(server)
        server.start(wait=wait)
        return server

    yield start
    for server in running:
        with suppress(RuntimeError):
            server.stop()


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, no_settings_around: None
) -> Iterator[LiveServer]:
    """One server with default settings for a whole module; tests leave it as they found it."""
    live = LiveServer(Settings(engine="fake", port=0, data_dir=tmp_path_factory.mktemp("data")))
    live.start()
    yield live
    live.stop()


@pytest.fixture
def wav_recording() -> bytes:
    """Half a second of a tone."""
    import numpy as np

    from vivavoce.audio.encode import wav_file

    tone = 0.4 * np.sin(np.arange(12_000) * 2 * np.pi * 220 / 24_000)
    return wav_file(tone.astype(np.float32), 24_000)
