"""A hang-up stops the engine within one step, over every transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from faults.inprocess import InnerServer, serving_here
from faults.rawcalls import (
    HEADERS_END,
    Transport,
    connection,
    http_request,
    text_frame,
    upgrade_request,
)
from quality.live import settled

STEP_MS = 150.0
LONG = "A sentence that goes on for quite some time. " * 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InnerServer]:
    folder = tmp_path_factory.mktemp("server")
    with serving_here(folder, capacity=1, fake={"step_ms": STEP_MS}) as live:
        yield live


def steps_after(server: InnerServer, at_close: int) -> int:
    """Steps that the engine still took after the caller had closed."""
    settled(lambda: server.service.lifecycle.loop.live, lambda live: live == 0)
    return int(server.engine.steps) - at_close


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("transport", Transport)
def test_a_hang_up_in_mid_stream_costs_at_most_one_step(
    server: InnerServer, transport: Transport, reset: bool
) -> None:
    async def call() -> int:
        async with connection(server.port, reset=reset) as (reader, writer):
            body = json.dumps({"input": LONG}).encode()
            if transport is Transport.WEBSOCKET:
                writer.write(upgrade_request(transport.value))
                await reader.readuntil(HEADERS_END)
                writer.write(text_frame(body))
            else:
                writer.write(http_request(transport.value, body))
                await reader.readuntil(HEADERS_END)
            await reader.readexactly(200)
            return int(server.engine.steps)

    assert steps_after(server, asyncio.run(call())) <= 1


def test_a_cancel_message_costs_at_most_one_step_and_the_socket_goes_on(
    server: InnerServer,
) -> None:
    async def call() -> tuple[int, list[object]]:
        url = f"ws://127.0.0.1:{server.port}/v1/audio/speech/ws"
        async with connect(url, proxy=None) as socket:
            await socket.send(json.dumps({"input": LONG}))
            while not isinstance(await socket.recv(), bytes):
                pass
            await socket.send('{"type": "cancel"}')
            at_cancel = int(server.engine.steps)
            while isinstance(message := await socket.recv(), bytes):
                pass
            assert json.loads(message)["event"] == "cancelled"
            left = steps_after(server, at_cancel)
            await socket.send(json.dumps({"input": "Hi."}))
            heard: list[object] = []
            while True:
                message = await socket.recv()
                heard.append("sound" if isinstance(message, bytes) else json.loads(message))
                if isinstance(heard[-1], dict) and heard[-1]["event"] != "start":
                    return left, heard

    left, heard = asyncio.run(call())
    assert left <= 1
    assert [one["event"] for one in heard if isinstance(one, dict)] == ["start", "done"]
    assert "sound" in heard


def test_a_caller_who_leaves_the_queue_never_reaches_the_engine(server: InnerServer) -> None:
    async def call() -> int:
        body = json.dumps({"input": LONG}).encode()
        request = http_request(Transport.PCM.value, body)
        async with connection(server.port) as (reader, writer):
            writer.write(request)
            await reader.readuntil(HEADERS_END)
            async with connection(server.port) as (_, second):
                second.write(request)
                await _until(lambda: server.service.admission.waiting == 1)
            await _until(lambda: server.service.admission.waiting == 0)
            return server.service.lifecycle.loop.live

    # One caller has at most two clauses in the engine: the one he hears and the next.
    assert asyncio.run(call()) <= 2
    assert steps_after(server, int(server.engine.steps)) <= 1


def test_the_next_call_after_a_hang_up_is_whole(server: InnerServer, tmp_path: Path) -> None:
    async def speak() -> bytes:
        request = http_request(Transport.PCM.value, b'{"input": "Hi."}', {"Connection": "close"})
        async with connection(server.port) as (reader, writer):
            writer.write(request)
            head = await reader.readuntil(HEADERS_END)
            assert b" 200 " in head
            return await reader.read()

    fresh = asyncio.run(speak())
    test_a_hang_up_in_mid_stream_costs_at_most_one_step(server, Transport.PCM, reset=True)
    assert asyncio.run(speak()) == fresh
    assert fresh.endswith(b"0\r\n\r\n")


async def _until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what it looks at has no event
            await asyncio.sleep(0.005)
