"""Whoever calls while there is no server is told so at once, and when to come back."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from vivavoce.serving import stand_in
from vivavoce.serving.stand_in import StandIn, refusal


@asynccontextmanager
async def standing_in(
    back_in_s: float = 1.5, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[StandIn, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = StandIn(listener, tls)
        await made.open(back_in_s)
        try:
            yield made, listener.getsockname()[1]
        finally:
            made.close()


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ask(port: int, method: str = "GET", **how: object) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return await client.request(method, f"http://127.0.0.1:{port}/v1/audio/speech", **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
async def test_every_request_gets_503_and_when_to_come_back(method: str) -> None:
    async with standing_in() as (_, port):
        answer = await ask(port, method)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert 0 < int(answer.headers["retry-after-ms"]) <= 1500
    assert answer.json()["error"]["code"] == "starting"
    assert answer.headers["connection"] == "close"


async def test_a_body_that_is_still_being_sent_does_not_lose_the_answer() -> None:
    async with standing_in() as (_, port):
        answer = await ask(port, "POST", content=b"x" * 3_000_000)
    assert answer.status_code == 503


async def test_a_websocket_is_refused_with_the_same_answer() -> None:
    async with standing_in() as (_, port):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://127.0.0.1:{port}/v1/audio/speech/ws", proxy=None):
                pass
    assert refused.value.response.status_code == 503
    assert refused.value.response.headers["Retry-After"] == "2"


async def test_a_head_request_gets_no_body() -> None:
    async with standing_in() as (_, port):
        answer = await ask(port, "HEAD")
    assert (answer.status_code, answer.content) == (503, b"")
    assert refusal(b"HEAD / HTTP/1.1\r\n\r\n", 1.0).endswith(b"\r\n\r\n")


async def test_http_1_0_and_nonsense_are_answered_too() -> None:
    async with standing_in() as (_, port):
        for request in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01 nonsense\r\n\r\n"):
            async with connection(port) as (reader, writer):
                writer.write(request)
                assert (await reader.readline()).startswith(b"HTTP/1.1 503")


@pytest.mark.parametrize(
    "send",
    [
        lambda writer: writer.write(b"GET / HTTP/1.1\r\nHost:"),
        lambda writer: writer.write(b"x" * 200_000),
        lambda writer: None,
    ],
    ids=["half a head", "no end of a head", "nothing"],
)
async def test_who_does_not_finish_asking_is_not_waited_for(
    send: Callable[[asyncio.StreamWriter], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in, "HEAD_S", 0.1)
    monkeypatch.setattr(stand_in, "LINGER_S", 0.1)
    async with standing_in() as (made, port), connection(port) as (reader, writer):
        send(writer)
        with suppress(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 10)
        async with asyncio.timeout(10):
            while made._connections:  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0.01)


async def test_beyond_its_bound_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "MAX_CONNECTIONS", 2)
    async with standing_in() as (made, port), connection(port), connection(port):
        async with asyncio.timeout(10):
            while made._connections < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with connection(port) as (reader, _):
            assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_closed_it_leaves_connections_to_the_server() -> None:
    async with standing_in() as (made, port):
        made.close()
        async with connection(port) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.2)
            await made.open(1.0)
            assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 503")


@pytest.mark.parametrize(
    ("back_in_s", "seconds", "milliseconds"),
    [(-5, b"1", b"200"), (0.5, b"1", b"500"), (7.2, b"8", b"7200"), (500, b"30", b"30000")],
)
def test_when_to_come_back_is_told_within_bounds(
    back_in_s: float, seconds: bytes, milliseconds: bytes
) -> None:
    answer = refusal(b"GET / HTTP/1.1\r\n\r\n", back_in_s)
    assert b"\r\nRetry-After: " + seconds + b"\r\n" in answer
    assert b"\r\nretry-after-ms: " + milliseconds + b"\r\n" in answer
