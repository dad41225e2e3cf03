"""OpenAI's own Python client against this server."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
import httpx
import openai
import pytest
from tests.serving.conftest import settle


@pytest.fixture
def client(server) -> Iterator[openai.OpenAI]:
    with _client(server) as made:
        yield made


def _client(server, max_retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=max_retries,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )


@pytest.mark.parametrize("encoding", ["mp3", "opus", "aac", "flac", "wav"])
def test_every_format(client, encoding) -> None:
    answer = client.audio.speech.create(
        model="tts-1", voice="alloy", input="Hello there.", response_format=encoding
    )
    with av.open(io.BytesIO(answer.read())) as container:
        frames = list(container.decode(audio=0))
    assert sum(frame.samples / frame.sample_rate for frame in frames) > 0.6


def test_streaming(client) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="marin", input="Hello there.", response_format="pcm"
    ) as answer:
        sound = b"".join(answer.iter_bytes())
    assert len(sound) > 0.6 * 48_000


def test_errors_are_those_the_client_knows(client) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.audio.speech.create(model="gpt-9", voice="alloy", input="Hello.")
    assert unknown.value.param == "model"
    with pytest.raises(openai.BadRequestError) as empty:
        client.audio.speech.create(model="tts-1", voice="alloy", input="")
    assert (empty.value.param, empty.value.code) == ("input", "invalid_request")


def test_models_are_listed(client) -> None:
    assert "tts-1" in [model.id for model in client.models.list()]
    assert client.models.retrieve("tts-1-hd").id == "tts-1-hd"


def test_a_busy_server_is_tried_again(serve) -> None:
    server = serve(fake={"paced": True, "capacity": 1}, max_queue_depth=1)
    first = server.raw_post("/v1/audio/speech", {"input": "on and on " * 100})
    second = server.raw_post("/v1/audio/speech", {"input": "on and on " * 100})
    assert settle(lambda: server.service.admission.waiting == 1)
    ask = {"model": "tts-1", "voice": "alloy", "input": "Hi.", "speed": 4}
    with _client(server) as once, pytest.raises(openai.RateLimitError):
        once.audio.speech.create(**ask)
    seen: list[int] = []

    def note(response: httpx.Response) -> None:
        seen.append(response.status_code)
        first.close()
        second.close()

    with _client(server, max_retries=3) as patient:
        patient._client.event_hooks["response"].append(note)
        assert patient.audio.speech.create(**ask).read()
    assert seen[0] == 429
    assert seen[-1] == 200
