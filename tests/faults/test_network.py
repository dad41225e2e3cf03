"""Bad networks: what arrives is whole or visibly not, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from faults.inprocess import InnerServer, serving_here
from faults.proxy import Proxy, Toxics, proxying
from faults.rawcalls import Transport
from quality.live import settled

TEXT = "What a caller hears does not depend on the network between."
LONG = "This is a text that takes a good while to say to the end. " * 12

Hear = Callable[[int, str], Awaitable[bytes]]


async def hear_http(port: int, text: str, path: str = Transport.PCM.value) -> bytes:
    """The body of one call; raises httpx.HTTPError where it is cut."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.post(f"http://127.0.0.1:{port}{path}", json={"input": text})
        return answer.raise_for_status().content


async def hear_events(port: int, text: str) -> bytes:
    """The same as server-sent events."""
    return await hear_http(port, text, Transport.SSE.value)


async def hear_socket(port: int, text: str) -> bytes:
    """The sound of one text over a WebSocket; raises WebSocketException where it is cut."""
    url = f"ws://127.0.0.1:{port}{Transport.WEBSOCKET.value}"
    async with connect(url, proxy=None, close_timeout=1) as socket:
        await socket.send(json.dumps({"input": text}))
        sound = b""
        while True:
            message = await socket.recv()
            if isinstance(message, bytes):
                sound += message
            elif json.loads(message)["event"] != "start":
                return sound


WAYS = [
    pytest.param(hear_http, id="pcm"),
    pytest.param(hear_events, id="events"),
    pytest.param(hear_socket, id="socket"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InnerServer]:
    limits = {"stall_timeout_s": 1.0, "request_timeout_s": 60.0}
    folder = tmp_path_factory.mktemp("server")
    with serving_here(folder, fake={"step_ms": 1.0}, **limits) as live:  # type: ignore[arg-type]
        yield live


def free(server: InnerServer) -> None:
    """Every slot and the engine are free."""
    admission, loop = server.service.admission, server.service.lifecycle.loop
    assert settled(lambda: admission.running + loop.live, lambda count: count == 0) == 0


def through(server: InnerServer, toxics: Toxics, work: Callable[[Proxy], Awaitable[None]]) -> None:
    """Do something through a proxy with these toxics, within a minute."""

    async def scenario() -> None:
        async with asyncio.timeout(60), proxying(server.port, toxics) as proxy:
            await work(proxy)

    asyncio.run(scenario())


@pytest.mark.parametrize("hear", WAYS)
@pytest.mark.parametrize(
    "toxics",
    [
        pytest.param(Toxics(latency_ms=20.0, jitter_ms=30.0), id="latency and jitter"),
        pytest.param(Toxics(slice_bytes=997), id="slices"),
        pytest.param(Toxics(jitter_ms=2.0, slice_bytes=4_099), id="jittered slices"),
        pytest.param(Toxics(slow_close_ms=200.0), id="slow close"),
    ],
)
def test_what_arrives_through_a_bad_network_is_the_same(
    server: InnerServer, hear: Hear, toxics: Toxics
) -> None:
    direct = asyncio.run(hear(server.port, TEXT))

    async def compare(proxy: Proxy) -> None:
        assert await hear(proxy.port, TEXT) == direct

    through(server, toxics, compare)
    free(server)


@pytest.mark.parametrize("hear", WAYS)
@pytest.mark.parametrize("after", [1, 3_000, 60_000])
def test_a_connection_that_is_reset_ends_visibly_and_frees_its_slot(
    server: InnerServer, hear: Hear, after: int
) -> None:
    async def lose(proxy: Proxy) -> None:
        with pytest.raises((httpx.HTTPError, WebSocketException, OSError, EOFError)):
            await hear(proxy.port, LONG)
        await asyncio.to_thread(free, server)

    through(server, Toxics(reset_after_bytes=after), lose)


@pytest.mark.parametrize("hear", WAYS)
def test_a_black_hole_is_let_go_and_neighbors_hear_the_same(
    server: InnerServer, hear: Hear
) -> None:
    """Nothing passes any more and nobody closes: the stall limit frees the slot."""
    endless = LONG * 16
    alone = asyncio.run(hear_http(server.port, TEXT))

    async def vanish(proxy: Proxy) -> None:
        lost = asyncio.create_task(hear(proxy.port, endless))
        neighbors = [asyncio.create_task(hear_http(server.port, TEXT)) for _ in range(8)]
        assert all(sound == alone for sound in await asyncio.gather(*neighbors))
        await asyncio.to_thread(free, server)
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)

    through(server, Toxics(black_hole_after_bytes=20_000), vanish)


def test_a_close_that_arrives_late_still_frees_the_slot(server: InnerServer) -> None:
    async def leave(proxy: Proxy) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        body = json.dumps({"input": LONG}).encode()
        head = f"POST {Transport.PCM.value} HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        await asyncio.to_thread(free, server)

    through(server, Toxics(slow_close_ms=300.0), leave)
