"""``stream=false``: a file with true lengths, made first and then sent, in little memory."""

from __future__ import annotations

import io
import json
import tempfile
import wave
from pathlib import Path
from typing import Any

import av
import pytest
from tests.serving.conftest import settle

from vivavoce.serving.waiting import SpoolSpace

TEXT = "Some words are spoken. And a few more of them."
LONG = "This goes on for quite a while. " * 30
RATE_HZ = 24_000


@pytest.mark.parametrize("encoding", ["mp3", "opus", "aac", "flac", "wav", "pcm", "ulaw", "ogg"])
def test_a_whole_file_says_its_length_and_is_what_is_streamed(server, encoding: str) -> None:
    streamed = server.speak(input=TEXT, response_format=encoding)
    whole = server.speak(input=TEXT, response_format=encoding, stream=False)
    assert int(whole.headers["content-length"]) == len(whole.content)
    assert "transfer-encoding" not in whole.headers
    assert whole.headers["content-type"] == streamed.headers["content-type"]
    assert "x-ignored-fields" not in whole.headers
    if encoding == "wav":  # its header is not the stream's
        assert whole.content[44:] == streamed.content[44:]
    elif encoding in ("pcm", "ulaw"):  # an encoder makes other bits of other pieces
        assert whole.content == streamed.content


def test_a_whole_wav_has_true_lengths(server) -> None:
    data = server.speak(input=TEXT, response_format="wav", stream=False).content
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    with wave.open(io.BytesIO(data)) as file:
        assert file.getnframes() == (len(data) - 44) // 2


def test_a_whole_flac_can_be_decoded(server) -> None:
    data = server.speak(input=TEXT, response_format="flac", stream=False).content
    with av.open(io.BytesIO(data)) as file:
        assert sum(frame.samples for frame in file.decode(audio=0)) > RATE_HZ


def test_events_are_never_whole(server) -> None:
    refused = server.speak(stream=False, stream_format="sse")
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "stream"
    assert server.speak(stream=True, stream_format="sse").status_code == 200


@pytest.mark.parametrize("path", ["/v1/audio/speech/stream", "/v1/audio/speech/stream/pcm"])
def test_where_all_is_streamed_the_field_is_named_as_ignored(server, path: str) -> None:
    answer = server.speak(path, stream=False)
    assert answer.headers["x-ignored-fields"] == "stream"


def test_remembered_speech_is_whole_too(server) -> None:
    text = "These words are said twice."
    first = server.speak(input=text, response_format="wav", stream=False)
    again = server.speak(input=text, response_format="wav", stream=False)
    assert (first.headers["x-cache"], again.headers["x-cache"]) == ("miss", "hit")
    assert first.content == again.content


def test_a_failure_in_the_middle_is_an_error_and_not_half_a_file(server) -> None:
    text = "Some words come first. Then a failword."
    answer = server.speak(input=text, response_format="wav", stream=False)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "engine_error"


@pytest.fixture
def tight(serve) -> Any:
    """A server with little room for whole files."""
    server = serve(audio_cache_max=0)
    space = space_of(server)
    space.total_bytes, space.memory_bytes = 4_000_000, 100_000
    return server


def space_of(server: Any) -> SpoolSpace:
    return server.server.config.app.state.context.spool


def test_a_large_file_goes_by_way_of_the_disk(tight, tmp_path: Path, monkeypatch) -> None:
    made: list[Any] = []
    make = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: made.append(make()) or made[-1])
    streamed = tight.speak(input=LONG, response_format="pcm").content
    assert 100_000 < len(streamed) < 4_000_000
    assert tight.speak(input=LONG, response_format="pcm", stream=False).content == streamed
    assert len(made) == 1
    assert settle(lambda: made[0].closed)


def test_a_clone_is_a_whole_file_by_the_same_way(tight, wav_recording: bytes) -> None:
    answer = tight.client.post(
        "/v1/audio/speech/clone", data={"input": LONG}, files={"file": wav_recording}
    )
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert int.from_bytes(answer.content[4:8], "little") == len(answer.content) - 8
    assert settle(lambda: tight.idle)


def test_files_beyond_all_room_are_refused_as_such(tight) -> None:
    refused = tight.speak(input=LONG, response_format="pcm", speed=0.5, stream=False)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "storage_full"
    assert int(refused.headers["retry-after"]) >= 1
    assert settle(lambda: tight.idle)
    assert tight.speak(input=TEXT, stream=False).status_code == 200
    assert tight.speak(input=LONG, response_format="pcm", speed=0.5).status_code == 200


def test_without_a_temporary_folder_the_error_is_the_same(tight, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    refused = tight.speak(input=LONG, response_format="pcm", stream=False)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_full")
    assert settle(lambda: tight.idle)
    assert tight.speak(input=TEXT, stream=False).status_code == 200


def test_a_caller_who_leaves_frees_the_room(tight) -> None:
    space = space_of(tight)
    for _ in range(3):
        raw = tight.raw_post(
            "/v1/audio/speech", {"input": LONG, "response_format": "pcm", "stream": False}
        )
        assert settle(lambda: space.used_bytes > 0)
        raw.close()
        assert settle(lambda: space.used_bytes == 0)
    assert settle(lambda: tight.idle)


def test_the_description_tells_of_the_field(server) -> None:
    schema = server.client.get("/openapi.json").json()
    field = schema["components"]["schemas"]["OpenAISpeechBody"]["properties"]["stream"]
    assert {"type": "boolean"} in field["anyOf"]
    assert field["default"] is True
    assert json.dumps(field).count("length")
