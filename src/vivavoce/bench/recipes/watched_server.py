"""For ``loop_lag.py`` and ``overload.py``: a server whose event loop is watched, and light callers.

Not to be run by itself, but by those as the server's process: it serves as ``vivavoce serve`` does
and notes how late its event loop wakes. Nothing here needs more of a checkout than it has had
since its first server, so that an earlier one can be measured beside this one (``--before``).
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .turns import environment_for, worker_command

PROBE_S = 0.002
SPEECH = "/v1/audio/speech"
HEAD_END = b"\r\n\r\n"


def work(at: str, lags_file: str, settings_json: str) -> None:
    """Serve at a port with settings; at SIGUSR1 lags go to the file, in ms."""
    from vivavoce.serving import server as serving
    from vivavoce.serving.logs import configure_logging
    from vivavoce.settings import Settings

    port, lags, chosen = int(at), Path(lags_file), json.loads(settings_json)
    settings = Settings(port=port, log_level="WARNING", **chosen)
    configure_logging(settings)

    async def run() -> None:
        server = serving.DrainingServer(settings, serving.build_service(settings))
        watching = asyncio.create_task(watch(lags))
        with serving.listen(settings) as listener:  # type: ignore[attr-defined]
            await server.serve(sockets=[listener])
        watching.cancel()

    asyncio.run(run())


async def watch(lags: Path) -> None:
    """Note how much later than asked the loop comes back to this."""
    loop = asyncio.get_running_loop()
    seen: list[float] = []

    def tell() -> None:
        part = lags.with_suffix(".part")
        part.write_text(json.dumps(seen))
        seen.clear()
        part.replace(lags)

    loop.add_signal_handler(signal.SIGUSR1, tell)
    while True:
        began_s = loop.time()
        await asyncio.sleep(PROBE_S)
        seen.append((loop.time() - began_s - PROBE_S) * 1000)


class Watched:
    """A running server of a checkout. Use it as a context manager."""

    def __init__(self, tree: Path | None, folder: Path, **settings: Any) -> None:
        from vivavoce.testing.server import ServerProcess, free_port

        self.port = free_port()
        self._lags = folder / f"lags-{self.port}.json"
        chosen = {"data_dir": str(folder), **settings}
        command = worker_command("watched_server", self.port, self._lags, json.dumps(chosen))
        self.process = ServerProcess(command, self.port, environment=environment_for(tree))

    def __enter__(self) -> Watched:
        self.process.__enter__()
        return self

    def __exit__(self, *how: Any) -> None:
        self.process.__exit__(*how)

    def lags_ms(self) -> list[float]:
        """How late the event loop was since this was asked last."""
        self._lags.unlink(missing_ok=True)
        os.kill(self.process.pid, signal.SIGUSR1)
        while not self._lags.exists():
            time.sleep(0.01)
        return list(json.loads(self._lags.read_text()))


@dataclass(slots=True)
class Heard:
    """One answer: when its first byte of sound came and its last, after the request was sent."""

    status: int = 0
    first_ms: float | None = None
    total_ms: float = 0.0
    size_bytes: int = 0
    headers: dict[str, str] = field(default_factory=dict)


async def ask(port: int, body: dict[str, Any], path: str = SPEECH) -> Heard:
    """One call over a connection of its own; the answer is read and thrown away."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    return await _exchange(port, head.encode() + data)


async def probe(port: int, path: str = "/livez") -> Heard:
    """A GET over a connection of its own."""
    return await _exchange(
        port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )


async def _exchange(port: int, request: bytes) -> Heard:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = Heard()
    try:
        began_s = time.monotonic()
        writer.write(request)
        head = await reader.readuntil(HEAD_END)
        lines = head.decode("latin-1").split("\r\n")
        heard.status = int(lines[0].split()[1])
        heard.headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
        }
        while data := await reader.read(65_536):
            if heard.first_ms is None:
                heard.first_ms = (time.monotonic() - began_s) * 1000
            heard.size_bytes += len(data)
        heard.total_ms = (time.monotonic() - began_s) * 1000
    finally:
        writer.close()
    return heard


def rounded(values: Iterable[float | None]) -> dict[str, float]:
    """The distribution of milliseconds, to the hundredth."""
    from vivavoce.bench.stats import spread

    return {name: round(value, 2) for name, value in spread(values).items()}


def scheduling() -> str:
    """How the system lets this and what it starts run; worth telling of a shared machine."""
    names = {os.SCHED_OTHER: "other", os.SCHED_RR: "real time (SCHED_RR)"}
    return f"{names.get(os.sched_getscheduler(0), 'unusual')}, nice {os.nice(0)}"


def ratio(after: float, before: float) -> float | None:
    """How many times; None for nothing."""
    return round(after / before, 3) if before and math.isfinite(before) else None
