"""Cloning once, and voices that are kept."""

from __future__ import annotations

import io
import wave

import pytest


def _clone(server, recording: bytes, **fields):
    fields = {"input": "Hello there."} | fields
    return server.client.post(
        "/v1/audio/speech/clone", data=fields, files={"file": ("me.wav", recording)}
    )


def _save(server, recording: bytes, name: str, **fields):
    return server.client.post(
        "/v1/audio/voices", data={"name": name} | fields, files={"audio_sample": recording}
    )


def test_a_clone_is_a_whole_wav_of_known_length(server, wav_recording) -> None:
    answer = _clone(server, wav_recording, ref_text="Hello.", temperature="0.5")
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    with wave.open(io.BytesIO(answer.content)) as sound:
        assert sound.getnframes() * 2 + 44 == len(answer.content)
        assert sound.getframerate() == 24_000


def test_a_clone_can_stream_in_another_format(server, wav_recording) -> None:
    answer = _clone(
        server, wav_recording, response_format="pcm", stream="true", sample_rate="8000", foo="1"
    )
    assert answer.headers["content-type"] == "audio/pcm"
    assert answer.headers["x-sample-rate"] == "8000"
    assert answer.headers["x-ignored-fields"] == "foo"
    assert "content-length" not in answer.headers


def test_a_clone_sounds_like_its_recording(server, wav_recording) -> None:
    other = wav_recording[:44] + wav_recording[44:][::-1]
    assert _clone(server, wav_recording).content != _clone(server, other).content


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": "!!"}, "input"),
        ({"speed": "nan"}, "speed"),
        ({"speed": "9"}, "speed"),
        ({"sample_rate": "x"}, "sample_rate"),
        ({"response_format": "wma"}, "response_format"),
    ],
)
def test_bad_forms_are_refused_by_name(server, wav_recording, fields, param) -> None:
    answer = _clone(server, wav_recording, **fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert server.idle


@pytest.mark.parametrize("recording", [b"", b"not audio at all", b"RIFF\x00\x00\x00\x00WAVE"])
def test_bad_recordings_are_refused(server, recording) -> None:
    answer = _clone(server, recording)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "file"


def test_a_form_without_a_file_or_of_another_kind_is_refused(server) -> None:
    missing = server.client.post(
        "/v1/audio/speech/clone", files={"input": (None, "Hello."), "file": (None, "text")}
    )
    assert missing.status_code == 400
    assert missing.json()["error"]["param"] == "file"
    assert server.client.post("/v1/audio/speech/clone", json={}).status_code == 400
    broken = server.client.post(
        "/v1/audio/speech/clone",
        content=b"garbage",
        headers={"Content-Type": "multipart/form-data"},
    )
    assert broken.status_code == 400
    assert "error" in broken.json()


def test_an_engine_that_cannot_clone_says_so(serve, wav_recording) -> None:
    server = serve(fake={"cloning": False})
    for answer in (_clone(server, wav_recording), _save(server, wav_recording, "me")):
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "unsupported"


def test_a_saved_voice_survives_a_restart(serve, wav_recording, tmp_path) -> None:
    server = serve(data_dir=tmp_path)
    saved = _save(server, wav_recording, "anna", consent="cons_1", description="mine")
    assert saved.status_code == 200
    assert saved.json()["object"] == "audio.voice"
    assert saved.json()["id"] == "anna"
    before = server.speak(voice="anna", response_format="pcm")
    server.stop()
    again = serve(data_dir=tmp_path)
    listed = again.client.get("/v1/audio/voices").json()["data"]
    assert [voice["kind"] for voice in listed if voice["id"] == "anna"] == ["cloned"]
    after = again.speak(voice={"id": "anna"}, response_format="pcm")
    assert after.content == before.content


def test_a_saved_voice_can_be_removed_once(server, wav_recording) -> None:
    assert _save(server, wav_recording, "bert").status_code == 200
    assert server.client.delete("/v1/audio/voices/bert").json()["deleted"] is True
    assert server.client.delete("/v1/audio/voices/bert").status_code == 404
    assert server.speak(voice="bert").status_code == 400


@pytest.mark.parametrize(("name", "status"), [("alto", 409), ("alloy", 409), ("../x", 400)])
def test_names_that_cannot_be_saved(server, wav_recording, name, status) -> None:
    assert _save(server, wav_recording, name).status_code == status


def test_a_built_in_voice_cannot_be_removed(server) -> None:
    assert server.client.delete("/v1/audio/voices/alto").status_code == 400
    assert server.client.delete("/v1/audio/voices/..%2fx").status_code == 404


def test_an_empty_transcript_is_refused(server, wav_recording) -> None:
    answer = _clone(server, wav_recording, ref_text="  ")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "ref_text"
