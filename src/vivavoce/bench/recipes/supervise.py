"""What callers notice when a supervised server crashes, or hangs, in the middle of calls.

    vivavoce bench recipe supervise [--rounds 5]

``vivavoce serve --supervise`` with the fake engine, paced, four calls in progress. Then either the
server's process is killed with SIGSEGV, or its engine's thread hangs in a step (limit 1 s, given up
at twice that). From that moment a new caller comes every 20 ms, over a connection of its own, every
tenth with an upgrade to a WebSocket, until one hears a whole text. Client, supervisor and server
share the machine. Writes benchmarks/results/supervise.json; the exit status says whether all who
came were answered and the next caller was served.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from vivavoce.bench.results import QUANTILES, distribution_row, figure_table
from vivavoce.bench.stats import Distribution, spread
from vivavoce.serving.stand_in import MESSAGE
from vivavoce.testing.server import ServerProcess, vivavoce_server

from .turns import Result

CALLS, EVERY_S, LIMIT_S, PATIENCE_S = 4, 0.02, 1.0, 60.0
FAULTS = ("crash", "hang")
TEXT = "All that is left to say, and it is soon said."
LONG = "This goes on and on while something else goes wrong. " * 20
ENVIRONMENT = {
    "VIVAVOCE_FAKE__PACED": "true",
    "VIVAVOCE_FAKE__FAULT": "step:hang~hangword",
    "VIVAVOCE_AUDIO_CACHE_MAX": "0",
    "VIVAVOCE_CAPACITY": "256",
    "VIVAVOCE_MAX_STEP_S": str(LIMIT_S),
}


@dataclass(slots=True)
class Answer:
    """How one caller fared: when it came (after the fault), how long the answer took."""

    came_s: float
    took_s: float = PATIENCE_S
    status: int = 0
    code: str = ""
    retry_after: bool = False
    socket: bool = False


@dataclass(slots=True)
class Round:
    """One fault and all who called around it."""

    callers: list[Answer] = field(default_factory=list)
    ended_s: list[float] = field(default_factory=list)
    served_s: float | None = None


def request(port: int, text: str) -> bytes:
    """A request for PCM whose answer ends with its connection."""
    body = json.dumps({"input": text, "response_format": "pcm"}).encode()
    head = (
        f"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def upgrade(port: int) -> bytes:
    """A request for a WebSocket."""
    return (
        f"GET /v1/audio/speech/ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


async def call(port: int, came_s: float, since_s: float, *, socket: bool = False) -> Answer:
    """One caller, until its answer is whole (of a socket that opens: until it has opened)."""
    answer = Answer(came_s, socket=socket)
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(upgrade(port) if socket else request(port, TEXT))
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                answer.status = int(head.split(maxsplit=2)[1])
                answer.retry_after = b"\r\nretry-after:" in head
                body = b"" if answer.status == 101 else await reader.read()
                if answer.status == 503:
                    answer.code = refused_by(body)
            finally:
                writer.close()
    except (OSError, asyncio.IncompleteReadError, TimeoutError):
        pass  # the status stays 0: nobody answered
    answer.took_s = time.monotonic() - began_s
    return answer


def refused_by(body: bytes) -> str:
    """The code of a refusal; "supervisor" where it came from there."""
    error = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])["error"]
    return "supervisor" if error["message"] == MESSAGE else str(error["code"])


async def stay(port: int, since: asyncio.Future[float]) -> float:
    """A call in progress; how long after the fault it ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(port, LONG))
    await reader.readuntil(b"\r\n\r\n")
    try:
        while await reader.read(65_536):
            pass
    except OSError:
        pass
    writer.close()
    return time.monotonic() - since.result()


def plant(fault: str, server: ServerProcess) -> bytes | None:
    """Make it go wrong; what a caller has to send for that."""
    if fault == "hang":
        return request(0, "the hangword")
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGSEGV)
    return None


async def one_round(fault: str, server: ServerProcess, port: int) -> Round:
    """Calls in progress, the fault, and callers until one is served."""
    since: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    staying = [asyncio.create_task(stay(port, since)) for _ in range(CALLS)]
    await asyncio.sleep(1.0)
    since.set_result(began_s := time.monotonic())
    if (sent := plant(fault, server)) is not None:
        _, culprit = await asyncio.open_connection("127.0.0.1", port)
        culprit.write(sent)
        await asyncio.sleep(0.1)
    found, coming = Round(), list[Any]()
    while found.served_s is None and time.monotonic() - began_s < PATIENCE_S:
        came_s, socket = time.monotonic() - began_s, len(coming) % 10 == 9
        coming.append(asyncio.create_task(call(port, came_s, began_s, socket=socket)))
        await asyncio.sleep(EVERY_S)
        served = [t.result() for t in coming if t.done() and t.result().status == 200]
        if served:
            found.served_s = min(each.came_s + each.took_s for each in served)
    found.callers = list(await asyncio.gather(*coming))
    found.ended_s = list(await asyncio.gather(*staying))
    return found


def measure(fault: str, rounds: int) -> dict[str, Any]:
    """A server of its own for each round: a restart after a failure may have to wait."""
    found: list[Round] = []
    for _ in range(rounds):
        with vivavoce_server("--engine", "fake", "--supervise", environment=ENVIRONMENT) as server:
            port = int(server.url.rpartition(":")[2])
            found.append(asyncio.run(one_round(fault, server, port)))
    return {"fault": fault, "rounds": rounds, **told(found)}


def told(found: Sequence[Round]) -> dict[str, Any]:
    """The figures of all rounds of one fault, in milliseconds."""
    callers = [each for one in found for each in one.callers]
    refused = [each for each in callers if each.status == 503]
    by = {
        code: spread([each.took_s * 1000 for each in refused if each.code == code])
        for code in ("supervisor", "starting")
    }
    return {
        "callers": len(callers),
        "statuses": {
            str(status): sum(each.status == status for each in callers)
            for status in sorted({each.status for each in callers})
        },
        "refused_without_retry_after": sum(not each.retry_after for each in refused),
        "sockets_refused": sum(each.socket for each in refused),
        "refused_by_the_supervisor_ms": by["supervisor"],
        "refused_by_the_new_server_ms": by["starting"],
        "longest_wait_ms": round(max(each.took_s for each in callers) * 1000, 1),
        "calls_in_progress_ended_ms": spread([s * 1000 for one in found for s in one.ended_s]),
        "next_served_ms": spread([(one.served_s or PATIENCE_S) * 1000 for one in found]),
        "all_served_in_the_end": all(one.served_s is not None for one in found),
    }


def show(console: Console, results: Sequence[dict[str, Any]]) -> None:
    """One row for each fault and figure."""
    names = (
        "refused_by_the_supervisor_ms",
        "refused_by_the_new_server_ms",
        "calls_in_progress_ended_ms",
        "next_served_ms",
    )
    rows = [
        distribution_row(f"{result['fault']} {name}", Distribution(**result[name]))
        for result in results
        for name in names
    ]
    console.print(figure_table("After the fault", ("", *QUANTILES), rows))


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--rounds", type=int, default=5)


def main(asked: argparse.Namespace) -> Result:
    """Measure both faults."""
    results = [measure(fault, asked.rounds) for fault in FAULTS]
    show(Console(), results)
    well = all(
        result["all_served_in_the_end"] and not result["refused_without_retry_after"]
        for result in results
    )
    return Result({"limit_s": LIMIT_S, "results": results}, well=well)
