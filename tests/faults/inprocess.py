"""The whole server in a thread of this process, so that its tasks and steps can be counted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.residue import Residue, process_counts
from quality.live import free_port
from vivavoce.serving.connections import Connections
from vivavoce.serving.server import DrainingServer, build_service, listen
from vivavoce.settings import Settings
from vivavoce.speech.service import SpeechService

START_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class InnerServer:
    """A server in this process that is ready."""

    port: int
    service: SpeechService
    connections: Connections
    event_loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def engine(self) -> Any:
        """The engine, for its counters."""
        return self.service.engine

    def residue(self) -> Residue:
        """What is in the server now."""
        tasks = asyncio.run_coroutine_threadsafe(_count_tasks(), self.event_loop).result(10)
        admission = self.service.admission
        threads, descriptors = process_counts()
        return Residue(
            running=admission.running,
            waiting=admission.waiting,
            live=self.service.lifecycle.loop.live,
            tasks=tasks,
            threads=threads,
            descriptors=descriptors,
        )


@contextmanager
def serving_here(folder: Path, engine: str = "fake", **settings: Any) -> Iterator[InnerServer]:
    """Run a server in a thread until left; keyword arguments are settings."""
    chosen = Settings(
        engine=engine, port=free_port(), data_dir=folder, **({"audio_cache_max": 0} | settings)
    )
    service = build_service(chosen)
    server = DrainingServer(chosen, service)
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        with listen(chosen) as listener:
            await server.serve(sockets=[listener])

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="test-server")
    thread.start()
    try:
        _await(lambda: bool(loops) and service.lifecycle.ready)
        yield InnerServer(chosen.port, service, server.connections, loops[0])
    finally:
        server.should_exit = True
        thread.join(START_LIMIT_S)
        assert not thread.is_alive(), "the server did not stop"


async def _count_tasks() -> int:
    return len(asyncio.all_tasks()) - 1  # not this one


def _await(condition: Any) -> None:
    end_s = time.monotonic() + START_LIMIT_S
    while not condition():
        if time.monotonic() > end_s:
            raise RuntimeError("the server did not become ready")
        time.sleep(0.01)
