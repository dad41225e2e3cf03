"""A real server in a thread, around an engine with tiny random weights."""

from __future__ import annotations

import threading
import time

import httpx

from vivavoce.serving.server import DrainingServer, build_service, listen
from vivavoce.settings import Settings

PATIENCE_S = 60.0
SPEECH = "/v1/audio/speech"


class Served:
    """A running server and a client of it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.service = build_service(settings)
        self.server = DrainingServer(settings, self.service)
        self.listener = listen(settings)
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True
        )
        self.client = httpx.Client(
            base_url=f"http://{self.address}", timeout=PATIENCE_S, trust_env=False
        )

    def start(self) -> None:
        self.thread.start()
        until_s = time.monotonic() + PATIENCE_S
        while not (self.server.started and self.service.lifecycle.ready):
            assert time.monotonic() < until_s and self.service.lifecycle.state != "failed"
            time.sleep(0.01)

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(PATIENCE_S)
        self.listener.close()
