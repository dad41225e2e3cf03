"""Calls over bare sockets, so that a test can hang up at any byte, politely or not.

One coroutine makes one call: it connects, sends, reads as far as its phase says and closes, with
a FIN or (SO_LINGER of zero seconds) with a RST.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import enum
import functools
import json
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vivavoce.audio.encode import wav_file

READ_LIMIT_S = 90.0
CALLERS = 12
TEXTS = (
    "Hello.",
    "One sentence of moderate length. And another one after it.",
    "First this, and then that, and then something else altogether. " * 3,
)
RST_ON_CLOSE = struct.pack("ii", 1, 0)
HEADERS_END = b"\r\n\r\n"
NEXT_REQUEST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
KIND_WEIGHTS = (7, 1, 1, 1)
TAIL_BYTES = 512  # the done event of a WebSocket fits in, whatever it tells


class Transport(enum.Enum):
    """How speech is asked for; the value is the path."""

    HTTP = "/v1/audio/speech"
    SSE = "/v1/audio/speech/stream"
    PCM = "/v1/audio/speech/stream/pcm"
    WEBSOCKET = "/v1/audio/speech/ws"


class Kind(enum.Enum):
    """What is asked for. Only speech comes over every transport."""

    SPEECH = "speech"
    PIPELINED = "speech, with another request behind it"
    CLONE = "speech in the voice of a recording, as a whole file"
    UPLOAD = "a voice to save"


class Phase(enum.Enum):
    """When the caller hangs up."""

    BEFORE_HEADERS = "before headers"
    QUEUED = "queued"
    BEFORE_AUDIO = "before first audio"
    MID_STREAM = "mid-stream"
    AT_END = "at the end"


@dataclass(frozen=True, slots=True)
class Call:
    """One call and how it ends. ``amount`` in 0..1 picks the place within the phase."""

    transport: Transport
    phase: Phase
    reset: bool
    text: str
    amount: float = 0.5
    fields: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind = Kind.SPEECH

    @property
    def body(self) -> bytes:
        """The request as JSON."""
        return json.dumps({"input": self.text, **self.fields}).encode()

    @property
    def opening(self) -> bytes:
        """What is sent first: the whole request, or a WebSocket's handshake."""
        if self.kind is Kind.CLONE:
            return form_request("/v1/audio/speech/clone", {"input": self.text}, "file")
        if self.kind is Kind.UPLOAD:
            name = f"voice-{self.amount * 1e9:.0f}"
            return form_request("/v1/audio/voices", {"name": name}, "audio_sample")
        if self.transport is Transport.WEBSOCKET:
            return upgrade_request(self.transport.value)
        behind = NEXT_REQUEST if self.kind is Kind.PIPELINED else b""
        return http_request(self.transport.value, self.body) + behind


def random_calls(count: int, texts: Sequence[str], seed: int) -> list[Call]:
    """Every transport, kind, phase and way to close, mixed at random but repeatably."""
    draw = random.Random(seed)
    formats: tuple[dict[str, str], ...] = (
        {},
        {"response_format": "pcm"},
        {"response_format": "wav"},
        {"stream_format": "sse"},
    )
    calls = []
    for _ in range(count):
        transport = draw.choice(list(Transport))
        fields = draw.choice(formats) if transport is Transport.HTTP else {}
        phase, reset = draw.choice(list(Phase)), draw.random() < 0.5
        kind = draw.choices(list(Kind), KIND_WEIGHTS)[0]
        if kind is not Kind.SPEECH:
            transport = Transport.HTTP
        text, amount = draw.choice(texts), draw.random()
        calls.append(Call(transport, phase, reset, text, amount, fields, kind))
    return calls


@functools.cache
def recording() -> bytes:
    """Half a second of a tone, as a WAV file."""
    tone = 0.4 * np.sin(np.arange(12_000) * 2 * np.pi * 220 / 24_000)
    return wav_file(tone.astype(np.float32), 24_000)


def form_request(path: str, fields: Mapping[str, str], file: str) -> bytes:
    """A POST with a form that holds a recording, after which the server is to close."""
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts += [f'name="{file}"; filename="me.wav"\r\n\r\n'.encode() + recording()]
    body = b"".join(
        b"--parts\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts
    )
    body += b"--parts--\r\n"
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += ["Content-Type: multipart/form-data; boundary=parts", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def http_request(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """A POST with a JSON body, as bytes."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def upgrade_request(path: str) -> bytes:
    """A WebSocket handshake (RFC 6455, section 4.1)."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket"]
    lines += ["Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
    return "\r\n".join([*lines, "", ""]).encode()


def text_frame(payload: bytes) -> bytes:
    """One masked, final text frame (RFC 6455, section 5.2)."""
    mask = os.urandom(4)
    size = len(payload)
    if size <= 125:
        head = struct.pack("!BB", 0x81, 0x80 | size)
    else:
        head = struct.pack("!BBH", 0x81, 0x80 | 126, size)
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return head + mask + masked


@asynccontextmanager
async def connection(
    port: int, *, reset: bool = False
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the local server that is closed, with a RST if ``reset``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        if reset:
            raw = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):  # the server was quicker
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
            writer.transport.abort()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def make_call(port: int, call: Call) -> int:
    """Make a call and hang up in its phase; returns the bytes that were read of the answer."""
    try:
        async with asyncio.timeout(READ_LIMIT_S):
            return await _made(port, call)
    except TimeoutError:
        raise TimeoutError(f"nothing comes any more: {call}") from None


async def _made(port: int, call: Call) -> int:
    async with connection(port, reset=call.reset) as (reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            return await _follow(reader, writer, call)
    return 0


async def _follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, call: Call) -> int:
    opening = call.opening
    message = text_frame(call.body) if call.transport is Transport.WEBSOCKET else b""
    if call.phase is Phase.BEFORE_HEADERS:
        writer.write(opening[: max(1, int(len(opening) * call.amount))])
        await writer.drain()
        return 0
    writer.write(opening)
    if message:
        await reader.readuntil(HEADERS_END)
        writer.write(message)
    await writer.drain()
    return await _read(reader, call)


async def _read(reader: asyncio.StreamReader, call: Call) -> int:
    if call.phase is Phase.QUEUED:
        await asyncio.sleep(call.amount * 0.02)
        return 0
    websocket = call.transport is Transport.WEBSOCKET
    count = len(await (reader.read(1) if websocket else reader.readuntil(HEADERS_END)))
    if call.phase is Phase.BEFORE_AUDIO:
        return count
    if call.phase is Phase.MID_STREAM:
        return count + len(await reader.readexactly(1 + int(call.amount * 8_000)))
    end = b'"done"' if websocket else b"\r\n0\r\n\r\n"
    tail = b""
    while end not in tail.replace(b" ", b"") and (data := await reader.read(65_536)):
        count += len(data)
        tail = (tail + data)[-TAIL_BYTES:]
    return count


async def hang_up_all(port: int, calls: list[Call], callers: int = CALLERS) -> int:
    """Make all calls, ``callers`` at a time; returns the bytes that were answered in all."""
    waiting = list(reversed(calls))
    answered = 0

    async def caller() -> None:
        nonlocal answered
        while waiting:
            answered += await make_call(port, waiting.pop())

    await asyncio.gather(*(caller() for _ in range(callers)))
    return answered
