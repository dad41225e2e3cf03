"""An engine that breaks as a whole: every caller is told, and so is whoever restarts the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from faults.inprocess import InnerServer, serving_here
from quality.live import settled


@pytest.fixture(scope="module")
def broken(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[InnerServer, list[object]]]:
    """A server whose engine broke under four calls, and how these ended."""
    folder = tmp_path_factory.mktemp("server")
    with serving_here(folder, fake={"step_ms": 20.0}) as server:
        ends = asyncio.run(_break(server))
        yield server, ends


async def _break(server: InnerServer) -> list[object]:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60) as client:

        async def speak(text: str) -> bytes:
            answer = await client.post("/v1/audio/speech/stream/pcm", json={"input": text})
            return answer.raise_for_status().content

        callers = [asyncio.create_task(speak("A long call. " * 30)) for _ in range(3)]
        await asyncio.to_thread(
            settled, lambda: server.service.lifecycle.loop.live, lambda live: live >= 3
        )
        await asyncio.sleep(0.2)
        callers.append(asyncio.create_task(speak("This is the breakword.")))
        return list(await asyncio.gather(*callers, return_exceptions=True))


def test_every_running_call_fails_visibly(broken: tuple[InnerServer, list[object]]) -> None:
    _, ends = broken
    assert all(isinstance(end, httpx.RemoteProtocolError | httpx.HTTPStatusError) for end in ends)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health"])
def test_the_probes_say_so(broken: tuple[InnerServer, list[object]], path: str) -> None:
    answer = httpx.get(broken[0].url + path, trust_env=False)
    assert answer.status_code == 503
    assert answer.json()["status"] != "ok"


def test_new_requests_are_refused_at_once(broken: tuple[InnerServer, list[object]]) -> None:
    answer = httpx.post(
        broken[0].url + "/v1/audio/speech", json={"input": "Hello."}, trust_env=False
    )
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "engine_failed"
    assert int(answer.headers["retry-after"]) >= 1


def test_no_slot_stays_taken(broken: tuple[InnerServer, list[object]]) -> None:
    admission = broken[0].service.admission
    assert settled(lambda: admission.running, lambda count: count == 0) == 0
    assert admission.waiting == 0
