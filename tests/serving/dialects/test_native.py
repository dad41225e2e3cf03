"""The PCM paths of the servers that callers move over from."""

from __future__ import annotations

import base64
import json

import numpy as np


def _lines(body: str) -> list[str]:
    return [line for line in body.splitlines() if line]


def test_events_begin_with_metadata_and_end_with_done(server) -> None:
    answer = server.speak("/v1/audio/speech/stream", sample_rate=16_000)
    lines = _lines(answer.text)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert lines[0] == "event: metadata"
    about = json.loads(lines[1].removeprefix("data: "))
    assert about == {
        "sample_rate": 16_000,
        "bit_depth": 16,
        "channels": 1,
        "encoding": "pcm_s16le",
    }
    assert lines[-1] == "data: [DONE]"
    sound = b"".join(base64.b64decode(line.removeprefix("data: ")) for line in lines[2:-1])
    bare = server.speak("/v1/audio/speech/stream/pcm", sample_rate=16_000)
    # What comes from the cache was kept as 16 bits before it was resampled.
    difference = np.frombuffer(sound, "<i2").astype(int) - np.frombuffer(bare.content, "<i2")
    assert np.abs(difference).max() <= 1


def test_bare_pcm_is_described_in_headers(server) -> None:
    answer = server.speak("/v1/audio/speech/stream/pcm", response_format="wav", sample_rate=8_000)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-pcm-sample-rate"] == "8000"
    assert answer.headers["x-pcm-bit-depth"] == "16"
    assert answer.headers["x-pcm-channels"] == "1"
    assert answer.headers["x-ignored-fields"] == "response_format"
    assert not answer.content.startswith(b"RIFF")


def test_an_error_event_ends_the_stream_without_done(server) -> None:
    answer = server.speak("/v1/audio/speech/stream", input="failword again and again")
    lines = _lines(answer.text)
    assert lines[-2] == "event: error"
    assert lines[-1].startswith("data: [ERROR] ")
    assert "[DONE]" not in answer.text


def test_text_is_normalized_on_the_streaming_paths(server) -> None:
    digits = server.speak("/v1/audio/speech/stream/pcm", input="It costs $1,250.", voice="bass")
    raw = server.speak(
        "/v1/audio/speech/stream/pcm", input="It costs $1,250.", voice="bass", normalize=False
    )
    assert len(digits.content) > 1.5 * len(raw.content)


def test_sentence_mode_makes_the_same_sound(server) -> None:
    text = {"input": "One sentence here. And a second one."}
    token = server.speak("/v1/audio/speech/stream/pcm", **text, stream_mode="token", seed=1)
    whole = server.speak("/v1/audio/speech/stream/pcm", **text, stream_mode="sentence", seed=2)
    assert token.content == whole.content
