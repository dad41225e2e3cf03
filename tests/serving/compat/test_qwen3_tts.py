"""The Qwen3-TTS server's old clients against ``compat=qwen3-tts-server``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serving.compat.old_clients import CallClient, samples_of
from serving.conftest import LiveServer, Serve, hear
from vivavoce.serving.compat.old_server import Voices
from vivavoce.serving.compat.qwen3_tts import FORMATS, SPEAKERS, error_of, spoken_fields
from vivavoce.settings import Settings

TEXT = "Hello there. How are you?"
SERVER = "qwen3-tts-server"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, no_settings_around: None) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("data")
    live = LiveServer(Settings(engine="fake", port=0, data_dir=folder, compat=SERVER))
    live.start()
    yield live
    live.stop()


@pytest.fixture
def client(old: LiveServer) -> CallClient:
    return CallClient(old.port)


def test_wav_where_no_format_is_asked_for(client: CallClient) -> None:
    rate_hz, sound = client.speech(TEXT)
    assert rate_hz == 24_000
    assert len(sound) > 24_000


@pytest.mark.parametrize("wanted", ["pcm", "aac", "ulaw", "something", 7])
def test_a_format_that_it_did_not_know_is_wav(client: CallClient, wanted: Any) -> None:
    assert client.speech(TEXT, response_format=wanted) == client.speech(TEXT)


@pytest.mark.parametrize("wanted", [name for name in FORMATS if name != "wav"])
def test_the_formats_that_it_knew_are_files(client: CallClient, wanted: str) -> None:
    answer = client.post("/v1/audio/speech", {"input": TEXT, "response_format": wanted})
    assert answer.status == 200
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="speech.')
    assert int(answer.headers["Content-Length"]) == len(answer.body)


def test_null_and_what_it_never_looked_at_mean_nothing(client: CallClient) -> None:
    names = ("voice", "language", "instruct", "temperature", "top_p", "sample_rate", "stream_mode")
    nothing = dict.fromkeys(names) | {"response_format": None, "speed": None}
    more = {"model": "qwen3-tts", "stream": True, "stream_format": "sse"}
    assert client.speech(TEXT, **nothing, **more) == client.speech(TEXT)


def test_every_data_line_is_sound(client: CallClient) -> None:
    _, sound = client.speech(TEXT)
    assert client.events(TEXT) == sound
    assert len(client.events(TEXT, sample_rate=8_000)) == pytest.approx(len(sound) / 3, abs=4)


def test_a_failure_in_the_stream_is_a_line(client: CallClient) -> None:
    with pytest.raises(RuntimeError, match=r"\[ERROR\]"):
        client.events("It speaks for a while, and then a failword.")


def test_pcm_is_described_in_headers(client: CallClient) -> None:
    rate_hz, sound = client.pcm(TEXT)
    assert (rate_hz, sound) == client.speech(TEXT)
    assert client.pcm(TEXT, sample_rate=8_000)[0] == 8_000


def test_a_socket_tells_nothing_before_the_sound(client: CallClient) -> None:
    _, sound = client.speech(TEXT)
    full = {"input": TEXT, "voice": None, "language": None, "speed": 1.0, "temperature": None,
            "top_p": None, "sample_rate": None, "stream_mode": "token"}  # fmt: skip
    assert client.socket({"input": TEXT}, full) == [sound, sound]


def test_a_socket_s_error_has_a_detail(client: CallClient) -> None:
    with pytest.raises(RuntimeError, match="nobody"):
        client.socket({"input": TEXT, "voice": "nobody"})


def test_a_socket_can_still_be_cancelled(old: LiveServer) -> None:
    with old.socket() as socket:
        socket.send(json.dumps({"type": "cancel"}))
        assert hear(socket)[0][-1]["event"] == "cancelled"
        socket.send("no JSON")
        assert hear(socket)[0][-1]["event"] == "error"


@pytest.mark.parametrize("name", [*SPEAKERS, "Vivian", "alloy", "nova"])
def test_its_voices_speak_on_any_model(client: CallClient, name: str) -> None:
    assert client.speech(TEXT, voice=name) == client.speech(TEXT)


def test_voices_that_are_here_speak_as_themselves(client: CallClient) -> None:
    assert client.speech(TEXT, voice="bass") != client.speech(TEXT)


def test_a_recording_is_spoken_like(client: CallClient, wav_recording: bytes) -> None:
    answer = client.clone(wav_recording, input=TEXT, ref_text="A tone.")
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Disposition"] == 'attachment; filename="speech.wav"'
    assert samples_of(answer.body)[0] == 24_000


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"input": ""}, "INVALID_REQUEST", "input"),
        ({"input": " \n"}, "EMPTY_INPUT", ""),
        ({"input": "Hi.", "voice": "nobody"}, "UNKNOWN_VOICE", "nobody"),
    ],
)
def test_errors_in_its_words(client: CallClient, fields: Any, code: str, said: str) -> None:
    answer = client.post("/v1/audio/speech", fields)
    assert answer.status == 400
    told = answer.told
    assert set(told) == {"code", "message", "context", "statusCode"}
    assert (told["code"], told["statusCode"]) == (code, 400)
    assert said in told["message"]


def test_what_is_no_json_and_what_is_not_there(client: CallClient, old: LiveServer) -> None:
    answer = old.client.post(
        "/v1/audio/speech", content=b"{", headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert client.get("/nowhere").told["statusCode"] == 404


def test_damaged_sound(client: CallClient) -> None:
    answer = client.clone(b"RIFF but not really", input=TEXT)
    assert (answer.status, answer.told["code"]) == (400, "INVALID_AUDIO")


def test_an_engine_that_fails(client: CallClient) -> None:
    answer = client.post("/v1/audio/speech", {"input": "A nanword."})
    assert (answer.status, answer.told["code"]) == (500, "SYNTHESIS_FAILED")


def test_full_is_503(serve: Serve) -> None:
    server = serve(compat=SERVER, capacity=1, max_queue_depth=1, fake={"paced": True})
    long = {"input": "It takes a long while to say all of this. " * 20}
    held = [server.raw_post("/v1/audio/speech/stream/pcm", long) for _ in range(2)]
    try:
        assert held[0].recv(1)
        answer = CallClient(server.port).post("/v1/audio/speech", {"input": "Hi."})
    finally:
        for each in held:
            each.close()
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "5"
    assert (answer.told["code"], answer.told["statusCode"]) == ("QUEUE_FULL", 503)


def test_its_own_questions(client: CallClient) -> None:
    health = client.get("/health").told
    assert {"status", "model_loaded", "model_id", "cuda", "queue_depth", "max_queue_depth",
            "voices", "audio_cache_size", "audio_cache_max", "voice_cache_size",
            "voice_cache_max", "voice_cache_hits"} <= set(health)  # fmt: skip
    assert {"stream_type", "voices", "model_id"} <= set(client.get("/v1/info").told)
    assert set(client.post("/cache/clear", {}).told) >= {"audio_cleared", "voice_cleared"}


def test_a_key_is_asked_for_in_its_words(serve: Serve) -> None:
    server = serve(compat=SERVER, api_keys=("secret",))
    answer = CallClient(server.port).post("/v1/audio/speech", {"input": TEXT})
    assert (answer.status, answer.told["code"]) == (401, "INVALID_API_KEY")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    spoken = server.client.post(
        "/v1/audio/speech", json={"input": TEXT}, headers={"Authorization": "Bearer secret"}
    )
    assert spoken.status_code == 200


def test_a_body_that_is_too_large(serve: Serve) -> None:
    server = serve(compat=SERVER, max_body_bytes=1_000)
    stated = server.client.post("/v1/audio/speech", json={"input": "x" * 2_000})
    assert (stated.status_code, stated.json()["code"]) == (413, "BODY_TOO_LARGE")

    def slowly() -> Iterator[bytes]:
        yield b'{"input": "'
        yield b"x" * 2_000 + b'"}'

    kind = {"Content-Type": "application/json"}
    grown = server.client.post("/v1/audio/speech", content=slowly(), headers=kind)
    assert (grown.status_code, grown.json()["code"]) == (413, "BODY_TOO_LARGE")


def test_a_body_in_pieces(old: LiveServer) -> None:
    pieces = iter([b'{"inp', b'ut": "Hi."}'])
    answer = old.client.post(
        "/v1/audio/speech", content=pieces, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/wav"


def test_head_and_probes_are_left_alone(old: LiveServer) -> None:
    assert old.client.head("/nowhere").status_code == 404
    assert httpx.get(f"{old.url}/livez", trust_env=False).status_code == 200


def test_the_default_voice_is_the_chosen_one_then_its_own() -> None:
    mine = ("alto", "vivian")
    assert spoken_fields({}, Voices(mine))["voice"] == "vivian"
    assert spoken_fields({"voice": ""}, Voices(mine, "alto"))["voice"] == "alto"
    assert spoken_fields({}, Voices(("alto",)))["voice"] is None
    assert spoken_fields({"voice": "ryan"}, Voices(("alto",), "alto"))["voice"] is None
    assert spoken_fields({"voice": "nova"}, Voices(("nova", "vivian")))["voice"] == "vivian"
    assert spoken_fields({"voice": "nova"}, Voices(("nova",)))["voice"] == "nova"
    assert spoken_fields({"voice": {"id": "alto"}}, Voices(mine))["voice"] == {"id": "alto"}
    assert spoken_fields({"voice": "nobody"}, Voices(mine))["voice"] == "nobody"


@pytest.mark.parametrize(
    ("status", "path", "code", "expected"),
    [
        (504, "/v1/audio/speech", "deadline_exceeded", ("SYNTHESIS_TIMEOUT", 504)),
        (429, "/v1/audio/speech", "rate_limit_exceeded", ("QUEUE_FULL", 503)),
        (500, "/v1/audio/speech/clone", "worker_died", ("CLONE_FAILED", 500)),
        (500, "/v1/audio/speech", None, ("INTERNAL_ERROR", 500)),
        (503, "/v1/audio/speech", "starting", ("STARTING", 503)),
    ],
)
def test_codes(status: int, path: str, code: str | None, expected: tuple[str, int]) -> None:
    found = error_of(status, path, {"code": code, "message": "So.", "param": None})
    assert (found.body["code"], found.status) == expected
    assert found.body["statusCode"] == found.status
