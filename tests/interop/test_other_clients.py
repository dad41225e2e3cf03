"""What Open WebUI, LiveKit and Pipecat send and read, as their published sources do it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import httpx
import pytest

from interop.decoding import duration_s
from quality.live import LiveServer, serving

TEXT = "Good morning. How are you?"


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with serving("fake", {"api_keys": "secret"}) as live:
        yield live


@pytest.fixture
def client(server: LiveServer) -> Iterator[httpx.Client]:
    with server.client(headers={"Authorization": "Bearer secret"}) as made:
        yield made


def test_open_webui_gets_an_mp3_for_model_input_and_voice(client: httpx.Client) -> None:
    body = {"model": "tts-1", "input": TEXT, "voice": "alloy"}
    answer = client.post("/v1/audio/speech", json=body)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/mpeg"
    assert duration_s(answer.content, "mp3") > 1.0


def test_open_webui_reads_voices_with_id_and_name(client: httpx.Client) -> None:
    voices = client.get("/v1/audio/voices").json()["voices"]
    assert {"alloy", "alto"} <= {voice["id"] for voice in voices}
    assert all(isinstance(voice["name"], str) and voice["name"] for voice in voices)


def test_open_webui_reads_models_with_id(client: httpx.Client) -> None:
    models = client.get("/v1/audio/models").json()["models"]
    assert "tts-1" in {model["id"] for model in models}
    assert "tts-1" in {model["id"] for model in client.get("/v1/models").json()["data"]}


@pytest.mark.parametrize("encoding", ["mp3", "pcm"])
def test_livekit_parses_events_by_content_type(client: httpx.Client, encoding: str) -> None:
    body = {
        "model": "gpt-4o-mini-tts",
        "input": TEXT,
        "voice": "ash",
        "instructions": "calmly",
        "speed": 1.0,
        "response_format": encoding,
        "stream_format": "sse",
    }
    sound, done = b"", False
    with client.stream("POST", "/v1/audio/speech", json=body) as answer:
        assert answer.headers["content-type"].split(";")[0] == "text/event-stream"
        for line in answer.iter_lines():
            if not line.startswith("data: "):
                continue
            event = json.loads(line[6:])
            if event["type"] == "speech.audio.delta":
                sound += base64.b64decode(event.get("delta") or event["audio"])
            done = done or event["type"] == "speech.audio.done"
    assert done
    assert duration_s(sound, encoding) > 1.0


def test_livekit_without_events_gets_bytes_labeled_as_sound(client: httpx.Client) -> None:
    body = {"model": "tts-1", "input": TEXT, "voice": "ash", "response_format": "mp3"}
    with client.stream("POST", "/v1/audio/speech", json=body) as answer:
        assert answer.headers["content-type"].startswith("audio/")
        answer.read()


def test_livekit_may_warm_its_connection_up(client: httpx.Client) -> None:
    assert client.get("/").status_code < 500


def test_pipecat_gets_pcm_at_24_khz(client: httpx.Client) -> None:
    body = {
        "model": "gpt-4o-mini-tts",
        "input": TEXT,
        "voice": "cedar",
        "response_format": "pcm",
        "extra": None,
    }
    with client.stream("POST", "/v1/audio/speech", json=body) as answer:
        assert answer.status_code == 200
        sound = b"".join(answer.iter_bytes(4_096))
        assert answer.headers["x-sample-rate"] == "24000"
    assert duration_s(sound, "pcm") > 1.0
