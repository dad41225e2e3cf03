"""Cloning once, and voices that are kept."""

from __future__ import annotations

import io
import json
import wave
from urllib.parse import quote

import numpy as np
import pytest

from audio import recordings
from audio.sounds import tone
from vivavoce.serving.dialects.voices import VoiceEntry, VoiceList


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


# Consent.


def test_a_consent_is_kept_with_the_voice_and_told_to_nobody(
    serve, wav_recording, tmp_path
) -> None:
    server = serve(data_dir=tmp_path)
    assert _save(server, wav_recording, "anna", consent="cons_1").status_code == 200
    saved = json.loads((tmp_path / "voices" / "fake" / "anna.json").read_text())
    assert saved["consent"] == "cons_1"
    assert "cons_1" not in server.client.get("/v1/audio/voices").text


@pytest.mark.parametrize("consent", [None, "", "  "])
def test_where_consent_is_required_nobody_is_cloned_without(
    serve, wav_recording, consent, tmp_path
) -> None:
    server = serve(require_consent=True)
    fields = {} if consent is None else {"consent": consent}
    for answer in (
        _save(server, wav_recording, "anna", **fields),
        _clone(server, wav_recording, **fields),
    ):
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("consent_required", "consent")
    assert not (tmp_path / "voices" / "fake").exists()
    assert server.idle


def test_where_consent_is_required_it_opens_the_door(serve, wav_recording) -> None:
    server = serve(require_consent=True)
    assert _save(server, wav_recording, "anna", consent="cons_1").status_code == 200
    answer = _clone(server, wav_recording, consent="cons_1")
    assert answer.status_code == 200
    assert "x-ignored-fields" not in answer.headers


@pytest.mark.parametrize("field", ["consent", "description"])
def test_texts_about_a_voice_are_bounded(server, wav_recording, field) -> None:
    answer = _save(server, wav_recording, "anna", **{field: "x" * 501})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


# What no voice can be made of.


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (np.zeros(48_000, np.float32), "silent"),
        (tone(0.02, 24_000), "at least 0.25 s"),
        (tone(3.0, 24_000, peak=4e-4), "too quiet"),
    ],
    ids=["silence", "20 ms", "below audibility"],
)
def test_what_cannot_be_heard_is_refused_with_the_reason(server, sound, reason) -> None:
    data = recordings.written("wav", "pcm_f32le", sound, 24_000)
    for answer, param in (
        (_save(server, data, "anna"), "audio_sample"),
        (_clone(server, data), "file"),
    ):
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("invalid_audio", param)
        assert reason in error["message"]


# Names.


@pytest.mark.parametrize("name", ["Anna Müller", "さくら", "Zoë 2", "con"])
def test_a_voice_may_have_any_name(server, wav_recording, name) -> None:
    saved = _save(server, wav_recording, name)
    assert saved.status_code == 200
    assert saved.json()["id"] == name
    listed = server.client.get("/v1/audio/voices").json()["voices"]
    assert name in [voice["id"] for voice in listed]
    assert server.speak(voice=name).status_code == 200
    removed = server.client.delete(f"/v1/audio/voices/{quote(name)}")
    assert removed.json() == {"object": "audio.voice.deleted", "id": name, "deleted": True}


@pytest.mark.parametrize(
    "name",
    [" anna", "anna ", "a/b", "..", ".x", "a\u202eb", "a\nb", "a\u200bb", "x" * 65, "x" * 999],
)
def test_names_that_cannot_be_are_refused_by_name(server, wav_recording, name) -> None:
    answer = _save(server, wav_recording, name)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "name"


def test_no_more_voices_are_saved_than_the_setting_says(serve, wav_recording) -> None:
    server = serve(max_saved_voices=1)
    assert _save(server, wav_recording, "anna").status_code == 200
    refused = _save(server, wav_recording, "bert")
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "too_many_voices"
    assert server.client.delete("/v1/audio/voices/anna").status_code == 200
    assert _save(server, wav_recording, "bert").status_code == 200


def test_the_list_has_the_shape_that_is_documented(server, wav_recording) -> None:
    _save(server, wav_recording, "Anna Müller", description="mine")
    answer = server.client.get("/v1/audio/voices")
    assert answer.headers["content-type"] == "application/json"
    listed = VoiceList.model_validate_json(answer.content, strict=True)
    assert listed.voices == listed.data
    assert listed.voices[0].id == "alto"
    assert [voice.description for voice in listed.voices if voice.id == "Anna Müller"] == ["mine"]
    assert {voice.id: voice.alias_of for voice in listed.voices}["alloy"] == "alto"
    assert set(answer.json()["voices"][0]) == set(VoiceEntry.model_fields)
    server.client.delete("/v1/audio/voices/Anna Müller")
    assert "Müller" not in server.client.get("/v1/audio/voices").text


def test_a_large_upload_is_cloned(server) -> None:
    """One that the form keeps on disk."""
    data = recordings.written("wav", "pcm_f32le", tone(20.0, 24_000), 24_000)
    assert len(data) > 1024 * 1024
    assert _clone(server, data).status_code == 200
    assert _save(server, data, "large").status_code == 200
    server.client.delete("/v1/audio/voices/large")
