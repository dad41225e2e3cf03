"""From chunk made to chunk received: what the server adds, with 64 paced streams at once.

    vivavoce bench recipe server_overhead [--streams 64]

The fake engine notes when it makes each chunk (its journal); this client notes when it has
received as many samples. Both read the same monotonic clock (Linux: one for all processes).
Client and server share the machine, so the figures hold the client's own work too; to keep that
small it speaks HTTP and WebSocket (RFC 9112, RFC 6455) by hand, as much of them as it needs.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import bisect
import json
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

from vivavoce.bench.results import QUANTILES, distribution_row, figure_table
from vivavoce.bench.stats import Distribution, spread
from vivavoce.bench.texts import SURNAMES, invented_surname
from vivavoce.testing.server import vivavoce_server

from .turns import Result

CHUNK_MS, RATE_HZ = 80, 24_000
TARGET = "p50 at most 1 ms, p99 at most 3 ms"
WORDS = "one long and even breath of words without any stop to make a single clause of it"
HTTP_PATH, WS_PATH = "/v1/audio/speech/stream/pcm", "/v1/audio/speech/ws"
WS_BINARY, WS_TEXT = 2, 1
WARM_UP = 8


class Framing:
    """Takes bytes off the wire and says how much sound was among them."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.ended = False

    def feed(self, data: bytes) -> int:
        """Bytes of sound newly complete or, within a chunk, newly arrived."""
        self.buffer += data
        sound_bytes = 0
        while (taken := self.take()) is not None:
            sound_bytes += taken
        return sound_bytes

    def take(self) -> int | None:
        """Sound of one more frame; None if it is not all there yet."""
        raise NotImplementedError


class Chunked(Framing):
    """HTTP/1.1 chunks."""

    def take(self) -> int | None:
        """One whole chunk."""
        end = self.buffer.find(b"\r\n")
        if end < 0:
            return None
        size = int(self.buffer[:end].partition(b";")[0], 16)
        whole = end + 2 + size + 2
        if len(self.buffer) < whole:
            return None
        del self.buffer[:whole]
        if size == 0:
            self.ended = True
            return None
        return size


class Frames(Framing):
    """WebSocket frames of a server: not masked."""

    def take(self) -> int | None:
        """One whole frame; a text frame that says done or error ends it."""
        buffer = self.buffer
        if len(buffer) < 2:
            return None
        kind, short = buffer[0] & 15, buffer[1] & 127
        head = 2 + {126: 2, 127: 8}.get(short, 0)
        if len(buffer) < head:
            return None
        size = short if head == 2 else int.from_bytes(buffer[2:head], "big")
        if len(buffer) < head + size:
            return None
        body = bytes(buffer[head : head + size])
        del buffer[: head + size]
        if kind == WS_TEXT and json.loads(body).get("event") in ("done", "error"):
            self.ended = True
        return size if kind == WS_BINARY else 0


@dataclass(slots=True)
class Stream:
    """One stream: the word that marks it, and how many samples had come by when."""

    word: str
    samples: list[int] = field(default_factory=lambda: [0])
    received_ns: list[int] = field(default_factory=lambda: [0])

    def note(self, at_ns: int, sound_bytes: int) -> None:
        """Sound has come."""
        if sound_bytes:
            self.samples.append(self.samples[-1] + sound_bytes // 2)
            self.received_ns.append(at_ns)

    def samples_at(self, at_ns: int) -> int:
        """How many samples were there by then."""
        return self.samples[bisect.bisect_right(self.received_ns, at_ns) - 1]

    def received_at_ns(self, samples: int) -> int | None:
        """When that many samples were there; None if they never were."""
        index = bisect.bisect_left(self.samples, samples)
        return self.received_ns[index] if index < len(self.samples) else None


class Client(asyncio.Protocol):
    """One connection: sends the request, times every arrival, resolves ``over`` at the end."""

    def __init__(self, stream: Stream, opening: bytes, framing: Framing, message: bytes) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stream = stream
        self._opening = opening
        self._framing = framing
        self._message = message
        self._head: bytes | None = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.write(self._opening)

    def data_received(self, data: bytes) -> None:
        """Note when it came."""
        at_ns = time.monotonic_ns()
        if self._head is not None:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self._begin(head)
        self._stream.note(at_ns, self._framing.feed(data))
        if self._framing.ended:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """There is no more."""
        self._end()

    def _begin(self, head: bytes) -> None:
        status = head.split(maxsplit=2)[1]
        if status not in (b"200", b"101"):
            raise SystemExit(f"The server answered {head[:300]!r}")
        self._head = None
        if self._message and self._transport:
            self._transport.write(self._message)

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)
        if self._transport:
            self._transport.close()


def http_opening(host: str, path: str, body: bytes) -> bytes:
    """A POST of JSON."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def ws_opening(host: str, path: str) -> bytes:
    """The handshake's first half."""
    key = base64.b64encode(random.randbytes(16)).decode()
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()


def ws_message(text: bytes) -> bytes:
    """One masked text frame; the mask is zero, which the protocol allows."""
    if len(text) < 126:
        return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text
    return bytes([0x81, 0x80 | 126]) + len(text).to_bytes(2, "big") + bytes(4) + text


async def speak(url: str, transport: str, word: str, waits_s: float) -> Stream:
    """One stream from its start to its end."""
    await asyncio.sleep(waits_s)
    address = urlsplit(url)
    stream = Stream(word)
    body = json.dumps({"input": f"{word} {WORDS}"}).encode()
    if transport == "ws":
        opening, message = ws_opening(address.netloc, WS_PATH), ws_message(body)
    else:
        opening, message = http_opening(address.netloc, HTTP_PATH, body), b""
    framing = Frames() if transport == "ws" else Chunked()
    _, client = await asyncio.get_running_loop().create_connection(
        lambda: Client(stream, opening, framing, message),
        address.hostname or "",
        address.port or 80,
    )
    await client.over
    return stream


async def speak_all(url: str, transport: str, words: list[str]) -> list[Stream]:
    """A stream for each word; they start at random within a second and then run side by side."""
    return await asyncio.gather(
        *(speak(url, transport, word, random.uniform(0, 1)) for word in words)
    )


def read_journal(journal: Path) -> dict[str, list[tuple[int, int]]]:
    """For each stream's word: how many samples were made by when."""
    made: dict[str, list[tuple[int, int]]] = {}
    for line in journal.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        word = entry["text"].split(maxsplit=1)[0].lower()
        made.setdefault(word, []).append((entry["samples"], entry["t_ns"]))
    return made


def delays_ms(streams: list[Stream], journal: Path) -> dict[str, list[float]]:
    """For each chunk made: until it was received, and how much of its sound was kept back.

    The pipeline keeps the end of a chunk until it knows whether more speech follows it (the end
    of a clause is trimmed and faded), so ``received`` is the arrival of the chunk's first sample,
    and ``kept_back`` the milliseconds of sound still missing when the next chunk was made.
    """
    made = read_journal(journal)
    found: dict[str, list[float]] = {"received": [], "kept_back": []}
    for stream in streams:
        before = 0
        chunks = made.get(stream.word, [])
        for index, (samples, made_ns) in enumerate(chunks):
            received_ns = stream.received_at_ns(before + 1)
            if received_ns is not None:
                found["received"].append((received_ns - made_ns) / 1e6)
            if index + 1 < len(chunks):
                there = stream.samples_at(chunks[index + 1][1])
                found["kept_back"].append(max(0, samples - there) / RATE_HZ * 1000)
            before = samples
    return found


def measure(transport: str, count: int) -> dict[str, Any]:
    """Start a server of its own for one transport, and compare its journal with what came."""
    numbers = random.sample(range(SURNAMES), count + WARM_UP)
    words = [invented_surname(number).lower() for number in numbers]
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal.jsonl"
        environment = {
            "VIVAVOCE_FAKE__JOURNAL": str(journal),
            "VIVAVOCE_FAKE__PACED": "true",
            "VIVAVOCE_FAKE__CHUNK_MS": str(CHUNK_MS),
            "VIVAVOCE_FAKE__CAPACITY": str(count),
            "VIVAVOCE_TEXT_NORMALIZE": "false",
        }
        with vivavoce_server("--engine", "fake", environment=environment) as server:
            asyncio.run(speak_all(server.url, transport, words[count:]))
            streams = asyncio.run(speak_all(server.url, transport, words[:count]))
            delays = delays_ms(streams, journal)
    return {
        "transport": transport,
        "streams": count,
        "samples_received": sum(stream.samples[-1] for stream in streams),
        **{f"{name}_ms": spread(values) for name, values in delays.items()},
    }


def show(console: Console, results: list[dict[str, Any]]) -> None:
    """One row for each transport and kind of delay."""
    rows = []
    for result in results:
        for name in ("received_ms", "kept_back_ms"):
            delays = Distribution(**result[name])
            rows.append(distribution_row(f"{result['transport']} {name}", delays))
    title = f"Made to received, {results[0]['streams']} paced streams; target: {TARGET}"
    console.print(figure_table(title, ("", *QUANTILES), rows))


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--streams", type=int, default=64)


def main(asked: argparse.Namespace) -> Result:
    """Measure both transports."""
    results = [measure(transport, asked.streams) for transport in ("http", "ws")]
    show(Console(), results)
    return Result({"target": TARGET, "results": results})
