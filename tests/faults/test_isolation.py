"""What goes wrong for one caller goes wrong for that caller alone, and visibly."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from faults.inprocess import InnerServer, serving_here
from faults.rawcalls import (
    Transport,
    connection,
    http_request,
    text_frame,
    upgrade_request,
)
from quality.live import metric, settled

GOOD = "A good call is not disturbed by what happens beside it."
STALL_S = 1.0
# Far more sound than every buffer between the two ends together.
ENDLESS = "This goes on and on and nobody is listening to it. " * 300


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InnerServer]:
    folder = tmp_path_factory.mktemp("server")
    limits: dict[str, Any] = {"stall_timeout_s": STALL_S, "request_timeout_s": 60.0, "capacity": 24}
    with serving_here(folder, fake={"step_ms": 1.0}, **limits) as live:
        yield live


async def good_call(client: httpx.AsyncClient, text: str = GOOD) -> bytes:
    body = {"input": text, "response_format": "pcm"}
    answer = await client.post("/v1/audio/speech", json=body)
    return answer.raise_for_status().content


def open_client(server: InnerServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60)


async def hear_events(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> str:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200
    return answer.text


async def hear_socket(server: InnerServer, *texts: str) -> list[list[Any]]:
    """The events of each text, spoken one after the other over one socket."""
    heard: list[list[Any]] = []
    async with connect(f"ws{server.url[4:]}{Transport.WEBSOCKET.value}", proxy=None) as socket:
        for text in texts:
            await socket.send(json.dumps({"input": text}))
            events: list[Any] = []
            while not events or events[-1]["event"] == "start":
                message = await socket.recv()
                if isinstance(message, str):
                    events.append(json.loads(message))
            heard.append(events)
    return heard


# A failure after the first sound.


@pytest.mark.parametrize("word", ["failword", "runawayword"])
def test_a_failing_call_is_cut_and_its_neighbors_are_not(server: InnerServer, word: str) -> None:
    async def scenario() -> None:
        async with open_client(server) as client:
            alone = await good_call(client)
            bad, *good = await asyncio.gather(
                good_call(client, f"This one meets a {word}."),
                *(good_call(client) for _ in range(6)),
                return_exceptions=True,
            )
        assert isinstance(bad, httpx.RemoteProtocolError)
        assert all(one == alone for one in good)

    asyncio.run(scenario())


@pytest.mark.parametrize("encoding", ["mp3", "opus", "aac", "flac", "wav", "pcm", "ulaw"])
def test_no_format_hides_a_truncation(server: InnerServer, encoding: str) -> None:
    body = {"input": "Some words come first. Then a failword.", "response_format": encoding}
    with (
        httpx.Client(base_url=server.url, trust_env=False) as client,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        client.post("/v1/audio/speech", json=body)


@pytest.mark.parametrize("word", ["failword", "runawayword"])
def test_events_end_with_an_error_and_not_as_if_all_were_said(
    server: InnerServer, word: str
) -> None:
    async def scenario() -> tuple[str, str]:
        text = f"This one meets a {word}."
        async with open_client(server) as client:
            return (
                await hear_events(client, "/v1/audio/speech/stream", {"input": text}),
                await hear_events(
                    client, "/v1/audio/speech", {"input": text, "stream_format": "sse"}
                ),
            )

    plain, openais = asyncio.run(scenario())
    assert "event: error\ndata: [ERROR]" in plain
    assert "[DONE]" not in plain
    assert '"speech.audio.error"' in openais
    assert "speech.audio.done" not in openais


@pytest.mark.parametrize("word", ["failword", "runawayword"])
def test_a_socket_tells_the_error_and_can_be_used_on(server: InnerServer, word: str) -> None:
    bad, good = asyncio.run(hear_socket(server, f"This one meets a {word}.", GOOD))
    assert bad[-1]["event"] == "error"
    assert bad[-1]["code"] in ("engine_error", "runaway_output")
    assert [event["event"] for event in good] == ["start", "done"]


def test_a_failure_before_any_sound_is_a_plain_error(server: InnerServer) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        answer = client.post("/v1/audio/speech", json={"input": "All nanword."})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "engine_error"


# Callers who do not read, or do not send.


@pytest.mark.parametrize("transport", Transport)
def test_a_caller_who_reads_nothing_ends_alone(server: InnerServer, transport: Transport) -> None:
    async def scenario() -> None:
        body = json.dumps({"input": ENDLESS, "sample_rate": 48_000}).encode()
        if transport is Transport.HTTP:
            body = body[:-1] + b', "response_format": "wav"}'
        before = backpressure(server)
        async with open_client(server) as client, connection(server.port) as (reader, writer):
            reader._limit = 1  # type: ignore[attr-defined] # the client's own buffer is closed
            if transport is Transport.WEBSOCKET:
                writer.write(upgrade_request(transport.value))
                await asyncio.sleep(0.2)
                writer.write(text_frame(body))
            else:
                writer.write(http_request(transport.value, body))
            alone = await good_call(client)
            while backpressure(server) == before:
                assert await good_call(client) == alone
        assert backpressure(server) == before + 1

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert settled(lambda: server.service.admission.running, lambda count: count == 0) == 0
    assert settled(lambda: server.service.lifecycle.loop.live, lambda count: count == 0) == 0


def backpressure(server: InnerServer) -> float:
    exposition = httpx.get(f"{server.url}/metrics", trust_env=False).text
    return metric(exposition, "tts_requests_total", outcome="backpressure")


def test_slow_senders_and_silent_connections_disturb_nobody(server: InnerServer) -> None:
    async def scenario() -> None:
        request = http_request(Transport.PCM.value, json.dumps({"input": GOOD}).encode())
        async with open_client(server) as client:
            alone = await good_call(client)
            before = server.residue()
            writers = [
                (await asyncio.open_connection("127.0.0.1", server.port))[1] for _ in range(60)
            ]
            for round_ in range(20):
                for writer in writers[:30]:  # the other thirty never send anything
                    writer.write(request[round_ : round_ + 1])
            calls = await asyncio.gather(*(good_call(client) for _ in range(8)))
            assert all(one == alone for one in calls)
            free(server)
            for writer in writers:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for writer in writers))
        after = settled(server.residue, lambda seen: seen.within(before))
        assert after.within(before), f"{after} is left, where there was {before}"

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_half_a_request_and_then_silence_takes_no_slot(server: InnerServer) -> None:
    async def scenario() -> None:
        request = http_request(Transport.HTTP.value, json.dumps({"input": GOOD}).encode())
        async with connection(server.port) as (_, writer):
            writer.write(request[:-5])
            async with open_client(server) as client:
                await good_call(client)
            free(server)

    asyncio.run(scenario())


def free(server: InnerServer) -> None:
    """Every slot; the last one is given back a moment after the caller has heard the end."""
    running = settled(lambda: server.service.admission.running, lambda count: count == 0)
    assert running == 0


def test_sixteen_callers_of_every_kind_hear_what_a_single_one_hears(server: InnerServer) -> None:
    text = "Everybody hears the same words. " * 2

    async def by_http(client: httpx.AsyncClient) -> bytes:
        return await good_call(client, text)

    async def by_pcm(client: httpx.AsyncClient) -> bytes:
        answer = await client.post("/v1/audio/speech/stream/pcm", json={"input": text})
        return answer.raise_for_status().content

    async def by_events(client: httpx.AsyncClient) -> bytes:
        told = await hear_events(client, "/v1/audio/speech/stream", {"input": text})
        events = told.strip().split("\n\n")[1:-1]
        return b"".join(base64.b64decode(one.removeprefix("data: ")) for one in events)

    async def by_socket(client: httpx.AsyncClient) -> bytes:
        url = f"ws{server.url[4:]}{Transport.WEBSOCKET.value}"
        async with connect(url, proxy=None) as socket:
            await socket.send(json.dumps({"input": text}))
            sound = b""
            while True:
                message = await socket.recv()
                if isinstance(message, bytes):
                    sound += message
                elif json.loads(message)["event"] != "start":
                    return sound

    async def scenario() -> None:
        async with open_client(server) as client:
            alone = await by_http(client)
            kinds = (by_http, by_pcm, by_events, by_socket) * 4
            assert all(one == alone for one in await asyncio.gather(*(k(client) for k in kinds)))

    asyncio.run(scenario())
