"""Five defects that brought an earlier server of this kind down; each has a test of its name."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import av
import httpx
import pytest

from faults.inprocess import InnerServer, serving_here
from faults.rawcalls import Transport
from quality.live import settled

LONG = "A sentence that nobody hears to its end. " * 40
TURN = "And this is the next turn."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InnerServer]:
    """One slot and a short queue, so that a single lost one is felt."""
    limits = {"capacity": 1, "max_queue_depth": 1, "audio_cache_max": 64, "api_keys": "key"}
    folder = tmp_path_factory.mktemp("server")
    with serving_here(folder, fake={"step_ms": 2.0}, **limits) as live:  # type: ignore[arg-type]
        yield live


@pytest.fixture
def client(server: InnerServer) -> Iterator[httpx.Client]:
    headers = {"Authorization": "Bearer key"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as made:
        yield made


def idle(server: InnerServer) -> bool:
    admission = server.service.admission
    return settled(lambda: admission.running + admission.waiting, lambda taken: taken == 0) == 0


def test_1_a_barge_in_does_not_wedge_the_server(server: InnerServer, client: httpx.Client) -> None:
    body = {"input": TURN, "stream_mode": "token"}
    path = Transport.PCM.value
    undisturbed = client.post(path, json=body).content
    client.post("/cache/clear")
    with client.stream("POST", path, json={"input": LONG, "stream_mode": "token"}) as answer:
        next(answer.iter_bytes())
    assert client.post(path, json=body).content == undisturbed
    assert client.get("/readyz").status_code == 200


def test_2_requests_with_an_unknown_voice_leak_no_queue_place(
    server: InnerServer, client: httpx.Client
) -> None:
    for path in ("/v1/audio/speech", Transport.SSE.value, Transport.PCM.value):
        for _ in range(6):
            answer = client.post(path, json={"input": TURN, "voice": "nobody"})
            assert answer.status_code == 400
    assert idle(server)
    assert client.post(Transport.PCM.value, json={"input": TURN}).status_code == 200


@pytest.mark.parametrize(
    ("encoding", "container"), [("pcm", None), ("aac", "aac"), ("wav", "wav"), (None, "mp3")]
)
def test_3_the_format_asked_for_is_the_format_sent(
    client: httpx.Client, encoding: str | None, container: str | None
) -> None:
    body = {"input": TURN} | ({"response_format": encoding} if encoding else {})
    sound = client.post("/v1/audio/speech", json=body).content
    if container is None:
        assert sound[:4] != b"RIFF"
        assert len(sound) % 2 == 0
        return
    with av.open(io.BytesIO(sound), "r") as found:
        assert container in found.format.name.split(",")


def test_4_events_models_voices_readiness_and_keys_are_there(
    server: InnerServer, client: httpx.Client
) -> None:
    answer = client.post("/v1/audio/speech", json={"input": TURN, "stream_format": "sse"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert json.loads(answer.text.split("\n\n")[0].removeprefix("data: "))["audio"]
    for path in ("/v1/models", "/v1/audio/models", "/v1/audio/voices", "/readyz"):
        assert client.get(path).status_code == 200
    stranger = httpx.post(f"{server.url}/v1/audio/speech", json={"input": TURN}, trust_env=False)
    assert stranger.status_code == 401


def test_5_the_cache_tells_apart_what_sounds_different(client: httpx.Client) -> None:
    body = {"input": TURN, "response_format": "pcm"}
    lengths = [
        len(client.post("/v1/audio/speech", json=body | {"sample_rate": rate}).content)
        for rate in (24_000, 8_000)
    ]
    assert lengths[0] == pytest.approx(3 * lengths[1], rel=0.01)
    hits = [
        client.post("/v1/audio/speech", json=body | more).headers["x-cache"]
        for more in ({"seed": 5}, {"temperature": 0.5}, {"top_p": 0.5}, {"speed": 1.25})
    ]
    assert hits == ["miss"] * 4
