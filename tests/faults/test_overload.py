"""More callers than there is room for: each gets a slot, a place or 429; nothing stays behind."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from faults.inprocess import InnerServer, serving_here
from faults.rawcalls import Transport, http_request
from quality.live import metric, settled
from vivavoce.speech import clauses as wording_room
from vivavoce.testing.fake_engine import FakeEngine
from vivavoce.types import Utterance

CAPACITY, PLACES = 2, 2
# More sound than the system's buffers hold for somebody who does not read.
LONG = "This is said before and kept, and it is long enough to wait for its reader. " * 16
TURN = "And somebody live speaks."
SPEECH = Transport.HTTP.value


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InnerServer]:
    folder = tmp_path_factory.mktemp("server")
    limits: dict[str, Any] = {
        "capacity": CAPACITY,
        "max_queue_depth": PLACES,
        "audio_cache_max": 64,
        "audio_cache_bytes": 1 << 28,
    }
    with serving_here(folder, **limits) as live:
        yield live


def client_of(server: InnerServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60)


def exposed(server: InnerServer, name: str) -> float:
    return metric(httpx.get(f"{server.url}/metrics", trust_env=False).text, name)


def empty(server: InnerServer) -> bool:
    service = server.service
    rooms = (service.admission, service.remembering)
    return all(room.running == room.waiting == 0 for room in rooms)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the server, which is in another thread."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - any condition, not only events
            await asyncio.sleep(0.005)


@contextlib.contextmanager
def full(server: InnerServer) -> Iterator[None]:
    """Every slot is taken, and every place."""
    room, done = server.service.admission, asyncio.Event()

    async def hold() -> None:
        async with room.slot():
            await done.wait()

    holding = [
        asyncio.run_coroutine_threadsafe(hold(), server.event_loop)
        for _ in range(CAPACITY + PLACES)
    ]
    taken = settled(lambda: room.running + room.waiting, lambda seen: seen == len(holding))
    assert taken == len(holding)
    try:
        yield
    finally:
        server.event_loop.call_soon_threadsafe(done.set)
        for each in holding:
            each.result(10)


@contextlib.contextmanager
def gated(engine: FakeEngine) -> Iterator[tuple[list[str], threading.Event]]:
    """The texts that the engine is given; it speaks none of them before it is let."""
    texts: list[str] = []
    go_on = threading.Event()
    admit, step = engine.admit, engine.step

    def noting(utterance: Utterance) -> int:
        texts.append(utterance.text)
        return admit(utterance)

    def waiting() -> Any:
        go_on.wait(30)
        return step()

    engine.admit, engine.step = noting, waiting  # type: ignore[method-assign]
    try:
        yield texts, go_on
    finally:
        go_on.set()
        engine.admit, engine.step = admit, step  # type: ignore[method-assign]


@contextlib.asynccontextmanager
async def never_reading(port: int, body: dict[str, Any]) -> Any:
    """A caller who asks and reads no answer."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, ("127.0.0.1", port))
        await loop.sock_sendall(raw, http_request(SPEECH, json.dumps(body).encode()))
        yield


@pytest.mark.parametrize("encoding", ["wav", "flac"])
def test_a_flood_of_remembered_speech_takes_its_own_slots_and_stops_nobody_live(
    server: InnerServer, encoding: str
) -> None:
    body = {"input": LONG, "response_format": encoding, "sample_rate": 48_000}

    async def scenario() -> None:
        room = server.service.remembering
        async with client_of(server) as client, contextlib.AsyncExitStack() as callers:
            (await client.post(SPEECH, json=body)).raise_for_status()
            for _ in range(CAPACITY + PLACES):
                await callers.enter_async_context(never_reading(server.port, body))
            await until(lambda: (room.running, room.waiting) == (CAPACITY, PLACES))
            refused = await asyncio.gather(*(client.post(SPEECH, json=body) for _ in range(12)))
            assert {answer.status_code for answer in refused} == {429}
            assert all(int(answer.headers["retry-after-ms"]) > 0 for answer in refused)
            live = await client.post(SPEECH, json={"input": f"{TURN} {encoding}."})
            assert (live.status_code, live.headers["X-Cache"]) == (200, "miss")
            assert (room.running, room.waiting) == (CAPACITY, PLACES)
            told = [exposed(server, f"tts_remembered_{what}") for what in ("running", "waiting")]
            assert told == [CAPACITY, PLACES]

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert settled(lambda: empty(server), bool)


def test_at_three_times_the_capacity_each_gets_a_slot_a_place_or_429_and_all_is_left_empty(
    server: InnerServer,
) -> None:
    before = exposed(server, "tts_reject_seconds_count")

    async def call(client: httpx.AsyncClient, number: int) -> int:
        answer = await client.post(SPEECH, json={"input": f"Caller {number} speaks."})
        return answer.status_code

    async def scenario(go_on: threading.Event) -> list[int]:
        room = server.service.admission
        async with client_of(server) as client:
            tasks = [asyncio.create_task(call(client, number)) for number in range(12)]
            await until(lambda: sum(task.done() for task in tasks) == 12 - CAPACITY - PLACES)
            assert (room.running, room.waiting) == (CAPACITY, PLACES)
            go_on.set()
            return await asyncio.gather(*tasks)

    with gated(server.engine) as (_, go_on):
        statuses = collections.Counter(asyncio.run(scenario(go_on)))
    assert statuses == {200: CAPACITY + PLACES, 429: 12 - CAPACITY - PLACES}
    assert settled(lambda: empty(server), bool)
    assert settled(lambda: server.service.lifecycle.loop.live, lambda live: live == 0) == 0
    assert exposed(server, "tts_reject_seconds_count") - before == statuses[429]


def test_those_who_wait_live_go_before_those_who_wait_in_batches(server: InnerServer) -> None:
    callers = [("one", {}), ("two", {}), ("a batch", {"priority": "batch"}), ("me", {})]

    async def call(client: httpx.AsyncClient, name: str, how: dict[str, str]) -> None:
        body = {"input": f"Here speaks {name}.", **how}
        (await client.post(SPEECH, json=body)).raise_for_status()

    async def scenario(go_on: threading.Event) -> None:
        room = server.service.admission
        async with client_of(server) as client:
            tasks = []
            for name, how in callers:
                tasks.append(asyncio.create_task(call(client, name, how)))
                count = len(tasks)
                await until(lambda count=count: room.running + room.waiting == count)  # type: ignore[misc]
            go_on.set()
            await asyncio.gather(*tasks)

    with gated(server.engine) as (texts, go_on):
        asyncio.run(scenario(go_on))
    assert texts.index("Here speaks me.") < texts.index("Here speaks a batch.")


def test_only_what_is_turned_away_is_timed_as_such(server: InnerServer) -> None:
    names = ("tts_reject_seconds_count", "tts_reject_seconds_sum")
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        before = [exposed(server, name) for name in names]
        for body, status in (({"input": "Hi."}, 200), ({"input": ""}, 400), ({}, 400)):
            assert client.post(SPEECH, json=body).status_code == status
        assert [exposed(server, name) for name in names] == before
        with full(server):
            assert client.post(SPEECH, json={"input": "Me?"}).status_code == 429
        count, sum_s = (exposed(server, name) for name in names)
    assert count == before[0] + 1
    assert sum_s > before[1]


def test_a_request_that_is_turned_away_is_not_read(
    server: InnerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its text nor its lexicon."""
    read: list[str] = []
    real = wording_room.clauses

    def noting(text: str, *how: Any) -> Any:
        read.append(text)
        return real(text, *how)

    monkeypatch.setattr(wording_room, "clauses", noting)
    words = {f"word {number}": "spoken " * 20 for number in range(1_000)}
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        assert client.post(SPEECH, json={"input": "Read this."}).status_code == 200
        with full(server):
            for body in ({"input": "unread " * 2_800}, {"input": "unread", "lexicon": words}):
                assert client.post(SPEECH, json=body).status_code == 429
    assert read == ["Read this."]
