"""Mixed traffic as a call centre makes it, and the judgement whether it left anything behind.

Of a hundred callers 70 hear their text to its end, 10 cancel, 5 are killed, 5 read slowly, 5 send
what cannot be spoken, 5 interrupt and go on at once (barge-in). Callers of every kind check what
they get: a normal one the very bytes that a single caller hears.
"""

from __future__ import annotations

import asyncio
import collections
import enum
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from faults.rawcalls import (
    HEADERS_END,
    Call,
    Phase,
    Transport,
    connection,
    http_request,
    make_call,
)
from faults.residue import process_counts
from quality.live import LiveServer, metric

TEXTS = (
    "Hello.",
    "Your table for two is booked at half past seven.",
    "One moment, please, I am looking it up. And here it is: three items, all in stock.",
)
LONG = "A text that somebody stops listening to long before its end. " * 20
SLOW_READ_S = 0.05
SAMPLE_EVERY_S = 1.0
MAX_SLOPE = 0.02
"""Share by which memory may grow over the second half of a run."""


class Kind(enum.Enum):
    """What a caller does."""

    NORMAL = "normal"
    CANCEL = "cancel"
    KILLED = "killed"
    SLOW = "slow"
    BAD = "bad"
    BARGE_IN = "barge-in"


SHARES = {
    Kind.NORMAL: 70,
    Kind.CANCEL: 10,
    Kind.KILLED: 5,
    Kind.SLOW: 5,
    Kind.BAD: 5,
    Kind.BARGE_IN: 5,
}
"""How many of a hundred callers are of each kind."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A look at the server process."""

    at_s: float
    rss_bytes: int
    threads: int
    descriptors: int
    running: int
    waiting: int


@dataclass(slots=True)
class Account:
    """What was done and seen."""

    done: collections.Counter[str] = field(default_factory=collections.Counter)
    refused: int = 0
    faults: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a run left the server as it was; ``complaints`` say what did not hold.

    ``memory_growth`` is the growth of resident memory over the second half, as a share of it.
    """

    complaints: tuple[str, ...]
    memory_growth: float


class Traffic:
    """Callers of every kind against one server, ``callers`` at a time."""

    def __init__(self, live: LiveServer, seed: int, callers: int = 8) -> None:
        self.live = live
        self.account = Account()
        self._draw = random.Random(seed)
        self._callers = callers
        self._expected: dict[str, bytes] = {}

    async def run(self, seconds: float) -> Account:
        """Call for so long, then wait for the last callers."""
        ends_s = time.monotonic() + seconds
        async with httpx.AsyncClient(base_url=self.live.url, trust_env=False, timeout=60) as client:
            for text in TEXTS:
                self._expected[text] = await _heard(client, text)
            sampling = asyncio.create_task(self._sample())
            callers = [self._caller(client, ends_s) for _ in range(self._callers)]
            try:
                await asyncio.gather(*callers)
            finally:
                sampling.cancel()
                await asyncio.gather(sampling, return_exceptions=True)
        return self.account

    async def _caller(self, client: httpx.AsyncClient, ends_s: float) -> None:
        ways: Mapping[Kind, Callable[[httpx.AsyncClient], Awaitable[None]]] = {
            Kind.NORMAL: self._normal,
            Kind.CANCEL: self._cancel,
            Kind.KILLED: self._killed,
            Kind.SLOW: self._slow,
            Kind.BAD: self._bad,
            Kind.BARGE_IN: self._barge_in,
        }
        while time.monotonic() < ends_s:
            kind = self._draw.choices(list(SHARES), list(SHARES.values()))[0]
            try:
                async with asyncio.timeout(60):
                    await ways[kind](client)
            except (httpx.HTTPError, OSError, TimeoutError, AssertionError, EOFError) as error:
                self._fault(kind, f"{type(error).__name__}: {error}"[:200])
            self.account.done[kind.value] += 1

    def _fault(self, kind: Kind, what: str) -> None:
        if len(self.account.faults) < 50:
            self.account.faults.append(f"{kind.value}: {what}")

    async def _normal(self, client: httpx.AsyncClient) -> None:
        text = self._draw.choice(TEXTS)
        heard = await _heard(client, text)
        if heard is None:
            self.account.refused += 1
        else:
            assert heard == self._expected[text], f"{len(heard)} bytes, not the usual sound"

    async def _cancel(self, client: httpx.AsyncClient) -> None:
        async with self._socket() as socket:
            await socket.send(json.dumps({"input": LONG}))
            await _until_sound(socket)
            await socket.send('{"type": "cancel"}')
            assert (await _until_event(socket))["event"] == "cancelled"

    async def _killed(self, client: httpx.AsyncClient) -> None:
        transport = self._draw.choice(list(Transport))
        phase = self._draw.choice([Phase.BEFORE_HEADERS, Phase.QUEUED, Phase.MID_STREAM])
        call = Call(transport, phase, True, self._draw.choice([*TEXTS, LONG]), self._draw.random())
        await make_call(self.live.port, call)

    async def _slow(self, client: httpx.AsyncClient) -> None:
        """Reads little by little, then leaves."""
        body = json.dumps({"input": LONG}).encode()
        async with connection(self.live.port) as (reader, writer):
            writer.write(http_request(Transport.PCM.value, body))
            head = await reader.readuntil(HEADERS_END)
            self._answered(head)
            for _ in range(10):
                await reader.read(1_000)
                await asyncio.sleep(SLOW_READ_S)

    async def _bad(self, client: httpx.AsyncClient) -> None:
        bodies: tuple[tuple[bytes, str], ...] = (
            (b'{"input": ""}', "application/json"),
            (b'{"input": "Hi.", "voice": "nobody"}', "application/json"),
            (b'{"input": "Hi.", "speed": 99}', "application/json"),
            (b"{", "application/json"),
            (b"\xff\xfe", "application/json"),
            (b"input=Hi.", "application/x-www-form-urlencoded"),
        )
        body, kind = self._draw.choice(bodies)
        answer = await client.post("/v1/audio/speech", content=body, headers={"Content-Type": kind})
        assert answer.status_code in (400, 429), answer.status_code

    async def _barge_in(self, client: httpx.AsyncClient) -> None:
        async with self._socket() as socket:
            await socket.send(json.dumps({"input": LONG}))
            await _until_sound(socket)
            await socket.send('{"type": "cancel"}')
            await socket.send(json.dumps({"input": TEXTS[0]}))
            assert (await _until_event(socket))["event"] == "cancelled"
            await _until_sound(socket)
            assert (await _until_event(socket))["event"] == "done"

    def _socket(self) -> connect:
        url = f"ws://127.0.0.1:{self.live.port}{Transport.WEBSOCKET.value}"
        return connect(url, proxy=None, compression=None, close_timeout=5)

    def _answered(self, head: bytes) -> None:
        status = int(head.split(b" ", 2)[1])
        assert status in (200, 429), f"status {status}"

    async def _sample(self) -> None:
        began_s = time.monotonic()
        while True:
            self.account.samples.append(await asyncio.to_thread(look, self.live, began_s))
            await asyncio.sleep(SAMPLE_EVERY_S)


def look(live: LiveServer, began_s: float) -> Sample:
    """One sample, by the server's own account and by /proc."""
    with live.client() as client:
        exposition = client.get("/metrics").text
    threads, descriptors = process_counts(live.process.pid)
    return Sample(
        round(time.monotonic() - began_s, 1),
        resident_bytes(live.process.pid),
        threads,
        descriptors,
        int(metric(exposition, "tts_requests_running")),
        int(metric(exposition, "tts_requests_waiting")),
    )


def resident_bytes(pid: int) -> int:
    """Resident memory of a process now."""
    pages = int((Path("/proc") / str(pid) / "statm").read_text().split()[1])
    return pages * 4_096


def judge(account: Account, idle: Sample, *, max_growth: float = MAX_SLOPE) -> Verdict:
    """Hold a run against what must be so; ``idle`` is a look after the last caller has gone."""
    complaints = list(account.faults)
    growth = second_half_growth([(one.at_s, one.rss_bytes) for one in account.samples])
    if growth > max_growth:
        complaints.append(f"memory grew by {growth:.1%} over the second half")
    if idle.running or idle.waiting:
        complaints.append(f"{idle.running} slots and {idle.waiting} places are still taken")
    early = account.samples[: max(len(account.samples) // 2, 1)]
    for name in ("threads", "descriptors"):
        most, left = max(getattr(one, name) for one in early), getattr(idle, name)
        if left > most:
            complaints.append(f"{left} {name} are left; the first half had {most} at most")
    return Verdict(tuple(complaints), growth)


def second_half_growth(samples: list[tuple[float, int]]) -> float:
    """By a straight line through the second half: its rise as a share of its mean."""
    half = samples[len(samples) // 2 :]
    if len(half) < 2:
        return 0.0
    at, size = (np.array(column, dtype=float) for column in zip(*half, strict=True))
    slope, _ = np.polyfit(at, size, 1)
    return float(slope * (at[-1] - at[0]) / size.mean())


async def _heard(client: httpx.AsyncClient, text: str) -> Any:
    """The sound of a text, or None where the server was busy."""
    answer = await client.post(Transport.PCM.value, json={"input": text, "seed": 1})
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        assert "retry-after" in answer.headers
        return None
    assert answer.status_code == httpx.codes.OK, f"status {answer.status_code}: {answer.text[:200]}"
    return answer.content


async def _until_sound(socket: ClientConnection) -> None:
    while not isinstance(message := await socket.recv(), bytes):
        event = json.loads(message)
        assert event["event"] == "start", f"event {event}"


async def _until_event(socket: ClientConnection) -> Mapping[str, Any]:
    while isinstance(message := await socket.recv(), bytes):
        pass
    event: Mapping[str, Any] = json.loads(message)
    return event
