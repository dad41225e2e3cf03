"""Callers hang up at any moment: what is left, and how the next call goes.

    vivavoce bench recipe hangup [--calls 1000]
    vivavoce bench recipe hangup --engine fake --calls 10000 --crowd 300 --open-files 256

Every transport (HTTP, events, PCM, WebSocket), kind (speech, clones, uploads, pipelined requests),
phase (before the headers, queued, before the first sound, mid-stream, at the end) and way to close
(FIN, RST), drawn at random. With ``--crowd`` so many silent clients (idle, with half a head sent,
and a few that never read) come back whenever they are let go. Writes
benchmarks/results/hangup.json, or hangup_crowd.json; the exit status says whether nothing was left.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from .turns import RESULTS, Result, tests_on_path

tests_on_path()

from faults.rawcalls import CALLERS, TEXTS, Call, hang_up_all, random_calls  # noqa: E402
from faults.residue import normal_call, process_residue  # noqa: E402
from faults.traffic import MAX_SLOPE, resident_bytes, second_half_growth  # noqa: E402
from faults.wire import post  # noqa: E402
from quality.live import LiveServer, serving, settled  # noqa: E402

SETTINGS = {"capacity": 8, "max_queue_depth": 0, "audio_cache_max": 0}
CROWD_SETTINGS = {
    "capacity": 24, "max_queue_depth": 32, "audio_cache_max": 0,
    "stall_timeout_s": 2, "head_timeout_s": 5, "fake.step_ms": 4,
}  # fmt: skip
RELEASE = "tts_cancel_to_release_seconds"
LOOK_S = 0.5
NEVER_READ = json.dumps({"input": "Nobody listens to this. " * 200, "response_format": "wav"})
SENT = (b"", b"GET /livez HTTP/1.1\r\nHost: lo") * 10 + (
    post("/v1/audio/speech", NEVER_READ.encode()),
) * 2
"""What clients of the crowd send before they fall silent; one who never reads takes a slot."""


def hang_up(live: LiveServer, calls: list[Call], crowd: int) -> dict[str, Any]:
    """Make the calls between two looks at the server."""
    sound = normal_call(live.url)
    # Pools grow to their size with the first calls; what counts is what the others leave.
    asyncio.run(hang_up_all(live.port, random_calls(2 * CALLERS, TEXTS, seed=0)))
    settled(lambda: process_residue(live), lambda seen: seen.running == 0)
    before, began_s = process_residue(live), time.monotonic()
    memory: list[tuple[float, int]] = []

    def look() -> None:
        memory.append((time.monotonic() - began_s, resident_bytes(live.process.pid)))

    with repeated(look, LOOK_S), crowding(live.port, crowd) as came_back:
        answered_bytes = asyncio.run(hang_up_all(live.port, calls))
    took_s = time.monotonic() - began_s
    after = settled(lambda: process_residue(live), lambda seen: seen.within(before))
    return {
        "took_s": round(took_s, 1),
        "answered_bytes": answered_bytes,
        "before": asdict(before),
        "after": asdict(after),
        "nothing_left": after.within(before),
        "next_call_is_the_same": normal_call(live.url) == sound,
        "memory_growth": round(second_half_growth(memory), 4),
        "memory_bytes": {"first": memory[0][1], "last": memory[-1][1]},
        "crowd_came_back": came_back[0],
        "outcomes": outcomes(live),
        "hang_up_to_slot_free_mean_ms": mean_ms(live, RELEASE),
        "step_mean_ms": mean_ms(live, "tts_step_seconds", stage="step"),
    }


@contextmanager
def repeated(work: Callable[[], None], every_s: float) -> Iterator[None]:
    """Do something again and again, in a thread."""
    ended = threading.Event()

    def again() -> None:
        while not ended.wait(every_s):
            work()

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def crowding(port: int, count: int) -> Iterator[list[int]]:
    """``count`` silent clients; how often one came back is the list's one number."""
    clients: list[socket.socket | None] = [None] * count
    came_back = [0]

    def renew() -> None:
        for place, client in enumerate(clients):
            if client is not None and not gone(client):
                continue
            if client is not None:
                client.close()
            with suppress(OSError):
                clients[place] = fresh = socket.create_connection(("127.0.0.1", port), timeout=5)
                fresh.sendall(SENT[place % len(SENT)])
                fresh.setblocking(False)
                came_back[0] += 1

    try:
        with repeated(renew, LOOK_S):
            yield came_back
    finally:
        for client in clients:
            if client is not None:
                client.close()


def gone(client: socket.socket) -> bool:
    """Whether the server has closed it. What it has sent is looked at, and left unread."""
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def drawn(calls: Sequence[Call]) -> dict[str, int]:
    """How many calls of each kind there were."""
    kinds = collections.Counter(
        f"{one.transport.name} {one.kind.name.lower()}, {one.phase.value}" for one in calls
    )
    return dict(sorted(kinds.items()))


def outcomes(live: LiveServer) -> dict[str, float]:
    """How the server saw the calls end."""
    names = ("ok", "cancelled", "rejected", "invalid", "backpressure", "deadline", "engine_error")
    return {name: live.metric("tts_requests_total", outcome=name) for name in names}


def mean_ms(live: LiveServer, name: str, **labels: str) -> float:
    """The mean of a histogram of seconds."""
    total_s, count = (live.metric(f"{name}_{part}", **labels) for part in ("sum", "count"))
    return round(total_s / count * 1000, 3) if count else 0.0


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--engine", default="piper")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--crowd", type=int, default=0)
    parser.add_argument("--open-files", type=int, default=0)


def main(asked: argparse.Namespace) -> Result:
    """Hang up, look, judge."""
    settings = CROWD_SETTINGS if asked.crowd else SETTINGS
    if asked.crowd and asked.json == RESULTS / "hangup.json":
        asked.json = RESULTS / "hangup_crowd.json"
    calls = random_calls(asked.calls, TEXTS, asked.seed)
    with serving(asked.engine, settings, open_files=asked.open_files) as live:
        found = hang_up(live, calls, asked.crowd)
    print(json.dumps(found, indent=1))
    figures = {"calls": asked.calls, "seed": asked.seed, "callers": CALLERS, "crowd": asked.crowd}
    figures |= {"open_files": asked.open_files or None, "settings": settings, "drawn": drawn(calls)}
    well = found["nothing_left"] and found["next_call_is_the_same"]
    return Result(figures | found, well=well and found["memory_growth"] <= MAX_SLOPE)
