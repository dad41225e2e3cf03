"""Faults that brought an earlier server of this kind down; each must stay impossible."""

from __future__ import annotations

import io
import json
import time

import av
import pytest
from tests.serving.conftest import settle

LONG = "This goes on and on. " * 60


def test_hangup_does_not_wedge_the_next_turn(serve) -> None:
    server = serve(fake={"paced": True, "capacity": 1}, max_queue_depth=1)
    for path in ("/v1/audio/speech", "/v1/audio/speech/stream", "/v1/audio/speech/stream/pcm"):
        raw = server.raw_post(path, {"input": LONG, "stream_mode": "token"})
        raw.recv(1_000)
        raw.close()
        turn = server.speak("/v1/audio/speech/stream/pcm", input="Yes?", speed=4)
        assert turn.status_code == 200
        assert len(turn.content) > 1_000
    with server.socket() as connection:
        connection.send(json.dumps({"input": LONG}))
        connection.recv()
    assert server.speak(input="Yes?", speed=4).status_code == 200
    assert settle(lambda: server.idle)


@pytest.mark.parametrize("path", ["/v1/audio/speech/stream", "/v1/audio/speech/stream/pcm"])
def test_unknown_voice_leaks_no_queue_slot(serve, path) -> None:
    server = serve(fake={"capacity": 1}, max_queue_depth=1)
    for _ in range(10):
        assert server.speak(path, voice="nobody").status_code == 400
    assert server.idle
    assert server.speak(path).status_code == 200


def test_pcm_and_aac_are_what_they_say(server) -> None:
    pcm = server.speak(response_format="pcm")
    aac = server.speak(response_format="aac")
    assert pcm.headers["content-type"] == "audio/pcm"
    assert not pcm.content.startswith(b"RIFF")
    assert aac.headers["content-type"] == "audio/aac"
    with av.open(io.BytesIO(aac.content)) as container:
        assert container.format.name == "aac"
    default = server.speak()
    with av.open(io.BytesIO(default.content)) as container:
        assert container.format.name == "mp3"


def test_stream_format_sse_is_honoured_and_models_listed(server) -> None:
    answer = server.speak(stream_format="sse")
    assert answer.headers["content-type"] == "text/event-stream"
    assert '"type":"speech.audio.done"' in answer.text
    models = server.client.get("/v1/models").json()
    assert {"tts-1", "gpt-4o-mini-tts", "fake"} <= {entry["id"] for entry in models["data"]}
    assert server.client.get("/v1/models/tts-1").json()["id"] == "tts-1"
    assert server.client.get("/v1/audio/models").json()["models"][0]["id"] == "fake"
    voices = server.client.get("/v1/audio/voices").json()["voices"]
    assert {"id", "name"} <= set(voices[0])
    assert {"alloy", "cedar"} <= {voice["id"] for voice in voices}
    assert server.client.get("/readyz").status_code == 200


def test_cache_key_covers_rate_and_sampling(server) -> None:
    text = {"input": "A text of its own.", "response_format": "pcm"}
    at_24 = server.speak(**text, sample_rate=24_000)
    at_8 = server.speak(**text, sample_rate=8_000)
    assert at_8.headers["x-sample-rate"] == "8000"
    assert len(at_24.content) == pytest.approx(3 * len(at_8.content), abs=12)
    for field in (
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"seed": 3},
        {"speed": 1.5},
        {"voice": "bass"},
        {"instructions": "softly"},
        {"normalize": False},
        {"language": "fr"},
        {"lexicon": {"text": "words"}},
        {"input_type": "ssml"},
    ):
        assert server.speak(**text, **field).headers["x-cache"] == "miss", field
        assert server.speak(**text, **field).headers["x-cache"] == "hit", field


def test_a_full_server_says_so_at_once_and_recovers(serve) -> None:
    server = serve(fake={"paced": True, "capacity": 1}, max_queue_depth=1)
    first = server.raw_post("/v1/audio/speech", {"input": LONG})
    assert settle(lambda: server.service.admission.running == 1)
    second = server.raw_post("/v1/audio/speech", {"input": LONG})
    assert settle(lambda: server.service.admission.waiting == 1)
    began_s = time.monotonic()
    answer = server.speak()
    assert time.monotonic() - began_s < 2.0
    assert answer.status_code == 429
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "busy")
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert int(answer.headers["retry-after-ms"]) >= 200
    first.close()
    second.close()
    assert settle(lambda: server.idle)
    assert server.speak().status_code == 200
