"""POST /v1/audio/speech, as OpenAI's clients use it and beyond."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import av
import pytest

OPENAI_VOICES = (
    "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable",
    "marin", "nova", "onyx", "sage", "shimmer", "verse",
)  # fmt: skip
CONTENT_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "ulaw": "audio/PCMU",
    "alaw": "audio/PCMA",
    "ogg": "audio/ogg",
}
RAW_BYTES = {"pcm": 2, "ulaw": 1, "alaw": 1}
SENTENCE = "Hello there, this is a sentence of some length to speak."


def _duration_s(data: bytes, encoding: str, rate_hz: int) -> float:
    if encoding in RAW_BYTES:
        return len(data) / RAW_BYTES[encoding] / rate_hz
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        return sum(frame.samples for frame in container.decode(stream)) / stream.rate


def _events(body: str) -> list[dict[str, Any]]:
    lines = [line for line in body.splitlines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize("encoding", CONTENT_TYPES)
@pytest.mark.parametrize("rate_hz", [None, 8_000, 44_100])
def test_each_format_decodes_to_the_same_duration(server, encoding, rate_hz) -> None:
    whole = server.speak(input=SENTENCE, response_format="pcm")
    expected_s = len(whole.content) / 2 / 24_000
    fields = {} if rate_hz is None else {"sample_rate": rate_hz}
    answer = server.speak(input=SENTENCE, response_format=encoding, **fields)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == CONTENT_TYPES[encoding]
    sent_hz = int(answer.headers["x-sample-rate"])
    assert sent_hz >= (rate_hz or 8_000)
    codec_delay_s = 2_400 / sent_hz
    sent_s = _duration_s(answer.content, encoding, sent_hz)
    assert sent_s == pytest.approx(expected_s, abs=0.05 + codec_delay_s)


def test_defaults_are_mp3_and_24_khz_pcm(server) -> None:
    assert server.speak().headers["content-type"] == "audio/mpeg"
    assert server.speak(response_format="pcm").headers["x-sample-rate"] == "24000"
    assert server.speak(response_format="ulaw").headers["x-sample-rate"] == "8000"


def test_pcm_is_24_khz_whatever_the_engine_speaks_at(serve) -> None:
    server = serve(fake={"sample_rate_hz": 22_050})
    assert server.speak(response_format="pcm").headers["x-sample-rate"] == "24000"
    assert server.speak(response_format="wav").headers["x-sample-rate"] == "22050"
    assert server.speak(stream_format="sse").headers["x-sample-rate"] == "24000"
    assert server.speak("/v1/audio/speech/stream/pcm").headers["x-pcm-sample-rate"] == "22050"


def test_a_rate_that_a_codec_cannot_carry_is_raised_and_announced(server) -> None:
    assert server.speak(response_format="opus", sample_rate=44_100).headers["x-sample-rate"] == (
        "48000"
    )


@pytest.mark.parametrize("voice", [*OPENAI_VOICES, {"id": "tenor"}, None, ""])
def test_every_openai_voice_speaks(server, voice) -> None:
    assert server.speak(voice=voice).status_code == 200


def test_a_voice_is_the_one_asked_for(server) -> None:
    answer = server.speak(voice={"id": "bass"}, response_format="pcm")
    assert answer.headers["x-vivavoce-voice"] == "bass"
    assert answer.headers["x-vivavoce-engine"] == "fake"
    assert answer.content != server.speak(voice="alto", response_format="pcm").content


@pytest.mark.parametrize(
    "model", ["tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15", "fake", None]
)
def test_known_models_speak(server, model) -> None:
    assert server.speak(model=model).status_code == 200


def test_an_unknown_model_is_a_404_that_lists_the_known_ones(server) -> None:
    answer = server.speak(model="gpt-9")
    error = answer.json()["error"]
    assert answer.status_code == 404
    assert error["param"] == "model"
    assert error["code"] == "model_not_found"
    assert "gpt-4o-mini-tts" in error["message"]


def test_sse_carries_the_same_bytes_as_audio(server) -> None:
    plain = server.speak(response_format="pcm", voice="tenor")
    answer = server.speak(response_format="pcm", voice="tenor", stream_format="sse")
    assert answer.headers["content-type"] == "text/event-stream"
    events = _events(answer.text)
    deltas = [event for event in events if event["type"] == "speech.audio.delta"]
    assert b"".join(base64.b64decode(delta["audio"]) for delta in deltas) == plain.content
    done = events[-1]
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert len(events) == len(deltas) + 1


def test_sse_tells_of_a_failure_and_has_no_done(server) -> None:
    answer = server.speak(input="failword " * 5, stream_format="sse")
    assert "event: error" in answer.text
    last = _events(answer.text)[-1]
    assert last["type"] == "speech.audio.error"
    assert last["error"]["code"] == "engine_error"
    assert "speech.audio.done" not in answer.text


def test_unknown_fields_are_tolerated_and_named(server) -> None:
    answer = server.speak(foo=1, **{"b\u00e4r\r\nx": 2})
    assert answer.status_code == 200
    assert answer.headers["x-ignored-fields"] == "foo, b_r__x"


def test_speed_shortens_the_sound(server) -> None:
    slow = server.speak(speed=0.5, response_format="pcm", input=SENTENCE)
    fast = server.speak(speed=2.0, response_format="pcm", input=SENTENCE)
    assert len(slow.content) > 3 * len(fast.content)


def test_speed_of_an_engine_without_one_is_made_by_stretching(serve) -> None:
    server = serve(fake={"speed": False})
    slow = server.speak(speed=0.5, response_format="pcm", input=SENTENCE)
    fast = server.speak(speed=2.0, response_format="pcm", input=SENTENCE)
    assert len(slow.content) > 3 * len(fast.content)


@pytest.mark.parametrize(
    "fields",
    [
        {"language": "en"},
        {"instructions": "softly"},
        {"instruct": "softly"},
        {"temperature": 0.5, "top_p": 0.9, "seed": 7.0},
        {"normalize": False},
        {"lexicon": {"there": "here"}},
        {"input": "<speak>Hi<break time='100ms'/> you.</speak>", "input_type": "ssml"},
        {"priority": "batch"},
        {"stream_mode": "sentence"},
        {"voice": "alto", "speed": 1, "sample_rate": 16000.0},
    ],
)
def test_every_field_is_understood(server, fields) -> None:
    answer = server.speak(**fields)
    assert answer.status_code == 200
    assert "x-ignored-fields" not in answer.headers


def test_what_is_spoken_again_comes_from_the_cache(server) -> None:
    first = server.speak(input="Once upon a time.", response_format="wav")
    again = server.speak(input="Once upon a time.", response_format="wav")
    assert (first.headers["x-cache"], again.headers["x-cache"]) == ("miss", "hit")
    assert len(first.content) == len(again.content)


def test_each_answer_has_a_request_id(server) -> None:
    sent = {"X-Request-ID": "call-17.4"}
    body = {"input": "Hi you."}
    assert server.client.post("/v1/audio/speech", json=body, headers=sent).headers[
        "x-request-id"
    ] == ("call-17.4")
    odd = {"X-Request-ID": "a b\u00e4".encode("latin-1")}
    made = server.client.post("/v1/audio/speech", json=body, headers=odd).headers["x-request-id"]
    assert made.startswith("req_")


def test_sound_leaves_as_it_is_made(serve) -> None:
    server = serve(fake={"paced": True})
    with server.client.stream(
        "POST", "/v1/audio/speech", json={"input": SENTENCE * 20, "response_format": "pcm"}
    ) as answer:
        sound = answer.iter_bytes()  # An iterator that nobody holds is closed, and hangs up.
        next(sound)
        assert server.service.admission.running == 1
        assert server.engine.steps > 0
    assert "accel-buffering" in "".join(answer.headers)
