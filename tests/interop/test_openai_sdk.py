"""The official OpenAI SDK against a live server, and the shapes that its relatives send."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import openai
import pytest

from interop.decoding import duration_s, loudness
from quality.live import LiveServer, serving, settled

TEXT = "Hello there, this is a test of the speech server."
FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")
MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
# Encoders pad the last frame and delay the first one.
CODEC_SLACK_S = 0.12
OPENAI_VOICES = [
    "alloy",
    "ash",
    "ballad",
    "cedar",
    "coral",
    "echo",
    "fable",
    "marin",
    "nova",
    "onyx",
    "sage",
    "shimmer",
    "verse",
]


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with serving("fake", {"audio_cache_max": 0}) as live:
        yield live


@pytest.fixture(scope="module")
def paced() -> Iterator[LiveServer]:
    """A server that speaks no faster than real time, one request at a time."""
    limits = {"capacity": 1, "max_queue_depth": 1, "audio_cache_max": 0}
    with serving("fake", {"fake.paced": "true", **limits}) as live:
        yield live


@pytest.fixture(scope="module")
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with sdk(server) as made:
        yield made


def sdk(server: LiveServer, **how: object) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1",
        **({"api_key": "any", "http_client": httpx.Client(trust_env=False)} | how),  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def whole_s(client: openai.OpenAI) -> float:
    """How long the text takes, by its PCM."""
    answer = client.audio.speech.create(
        model="tts-1", voice="alloy", input=TEXT, response_format="pcm"
    )
    return duration_s(answer.content, "pcm")


@pytest.mark.parametrize("encoding", FORMATS)
def test_every_format_decodes_to_the_whole_speech(
    client: openai.OpenAI, whole_s: float, encoding: str
) -> None:
    answer = client.audio.speech.create(
        model="gpt-4o-mini-tts",
        voice="nova",
        input=TEXT,
        response_format=encoding,  # type: ignore[arg-type]
    )
    assert answer.response.headers["content-type"] == MEDIA_TYPES[encoding]
    assert duration_s(answer.content, encoding) == pytest.approx(whole_s, abs=CODEC_SLACK_S)
    assert loudness(answer.content, encoding) > 0.05


def test_mp3_is_the_default(client: openai.OpenAI, whole_s: float) -> None:
    answer = client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT)
    assert answer.response.headers["content-type"] == "audio/mpeg"
    assert duration_s(answer.content, "mp3") == pytest.approx(whole_s, abs=CODEC_SLACK_S)


def test_speed_shortens_the_speech(client: openai.OpenAI, whole_s: float) -> None:
    answer = client.audio.speech.create(
        model="tts-1", voice="alloy", input=TEXT, response_format="pcm", speed=2.0
    )
    assert duration_s(answer.content, "pcm") == pytest.approx(whole_s / 2, rel=0.1)


@pytest.mark.parametrize("voice", OPENAI_VOICES)
def test_every_openai_voice_speaks_pcm_at_24_khz(client: openai.OpenAI, voice: str) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice=voice, input="Hi there.", response_format="pcm"
    ) as answer:
        data = answer.read()
        assert answer.headers["content-type"] == "audio/pcm"
        assert answer.headers["x-sample-rate"] == "24000"
    assert len(data) % 2 == 0
    assert duration_s(data, "pcm") > 0.3


def test_a_voice_may_be_an_object(client: openai.OpenAI) -> None:
    answer = client.audio.speech.create(model="tts-1", voice={"id": "bass"}, input="Hi.")
    assert duration_s(answer.content, "mp3") > 0


def test_unknown_fields_are_tolerated_and_named(client: openai.OpenAI) -> None:
    answer = client.audio.speech.with_raw_response.create(
        model="tts-1", voice="alloy", input="Hi.", extra_body={"cheerfulness": 11}
    )
    assert "cheerfulness" in answer.headers["x-ignored-fields"]


@pytest.mark.parametrize("encoding", FORMATS)
def test_sound_arrives_in_pieces_while_it_is_made(paced: LiveServer, encoding: str) -> None:
    with (
        sdk(paced) as client,
        client.audio.speech.with_streaming_response.create(
            model="tts-1",
            voice="alloy",
            input="A minute of speech at the pace of speech. " * 25,
            response_format=encoding,  # type: ignore[arg-type]
        ) as answer,
    ):
        pieces = answer.iter_bytes()
        assert all(next(pieces) for _ in range(3))
        assert paced.metric("tts_requests_running") == 1


def test_events_carry_the_speech_and_its_usage(client: openai.OpenAI, whole_s: float) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts",
        voice="alloy",
        input=TEXT,
        response_format="pcm",
        stream_format="sse",
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [
            json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.strip()
        ]
    *deltas, done = events
    assert {one["type"] for one in deltas} == {"speech.audio.delta"}
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    sound = b"".join(base64.b64decode(one["audio"]) for one in deltas)
    assert duration_s(sound, "pcm") == pytest.approx(whole_s, abs=0.01)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": " \n\t "}, "input"),
        ({"input": "..."}, "input"),
        ({"voice": "nobody"}, "voice"),
        ({"response_format": "midi"}, "response_format"),
        ({"speed": 0}, "speed"),
        ({"speed": 9}, "speed"),
        ({"stream_format": "carrier pigeon"}, "stream_format"),
        ({"extra_body": {"sample_rate": 7999}}, "sample_rate"),
    ],
)
def test_a_wrong_field_is_a_bad_request_that_names_it(
    client: openai.OpenAI, fields: dict[str, object], param: str
) -> None:
    request = {"model": "tts-1", "voice": "alloy", "input": "Hi."} | fields
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.speech.create(**request)  # type: ignore[arg-type]
    assert caught.value.param == param
    assert caught.value.code


def test_an_unknown_model_is_not_found_and_the_known_ones_are_listed(
    client: openai.OpenAI,
) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.audio.speech.create(model="whisper-9", voice="alloy", input="Hi.")
    assert caught.value.code == "model_not_found"
    assert "tts-1" in caught.value.message


def test_models_can_be_listed_and_retrieved(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert {"tts-1", "tts-1-hd", "gpt-4o-mini-tts"} <= set(names)
    assert client.models.retrieve("tts-1").id == "tts-1"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_a_wrong_key_is_an_authentication_error() -> None:
    with serving("fake", {"api_keys": "right"}) as live:
        with sdk(live, api_key="wrong") as stranger, pytest.raises(openai.AuthenticationError):
            stranger.audio.speech.create(model="tts-1", voice="alloy", input="Hi.")
        with sdk(live, api_key="right") as friend:
            answer = friend.audio.speech.create(model="tts-1", voice="alloy", input="Hi.")
        assert answer.content


def test_the_sdk_waits_out_a_full_server_as_long_as_it_says(paced: LiveServer) -> None:
    with full(paced) as make_room:
        with paced.client() as probe:
            refused = probe.post("/v1/audio/speech", json={"input": "Hi."})
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert int(refused.headers["retry-after-ms"]) > 0

        with sdk(paced, max_retries=0) as impatient, pytest.raises(openai.RateLimitError) as caught:
            impatient.audio.speech.create(model="tts-1", voice="alloy", input="Hi.")
        assert caught.value.code == "busy"

        before = rejected(paced)
        with sdk(paced, max_retries=8) as patient, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(
                patient.audio.speech.create, model="tts-1", voice="alloy", input="Hi."
            )
            settled(lambda: rejected(paced), lambda count: count > before)
            make_room.set()
            answer = waiting.result()
    assert duration_s(answer.content, "mp3") > 0
    assert rejected(paced) > before, "the SDK was never refused: the test proves nothing"


@contextmanager
def full(live: LiveServer) -> Iterator[threading.Event]:
    """One call that speaks and one that waits, until the event is set."""
    over = threading.Event()

    def occupy() -> None:
        body = {"input": "A long call that fills the line. " * 50}
        with live.client() as client, client.stream("POST", "/v1/audio/speech", json=body) as call:
            for _ in call.iter_bytes():
                if over.is_set():
                    return

    threads = [threading.Thread(target=occupy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        settled(lambda: live.metric("tts_requests_waiting"), lambda waiting: waiting == 1)
        yield over
    finally:
        over.set()
        for thread in threads:
            thread.join()


def rejected(live: LiveServer) -> float:
    return live.metric("tts_requests_total", outcome="rejected")


def test_a_failure_in_mid_stream_is_seen_by_the_sdk(client: openai.OpenAI) -> None:
    with (
        client.audio.speech.with_streaming_response.create(
            model="tts-1",
            voice="alloy",
            input="Some sound and then a failword.",
            response_format="pcm",
        ) as answer,
        pytest.raises((httpx.RemoteProtocolError, openai.APIConnectionError)),
    ):
        for _ in answer.iter_bytes():
            pass


def test_a_failure_in_events_is_an_error_event_without_done(client: openai.OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts",
        voice="alloy",
        input="Some sound and then a failword.",
        response_format="pcm",
        stream_format="sse",
    ) as answer:
        body = b"".join(answer.iter_bytes()).decode()
    assert "speech.audio.error" in body
    assert "speech.audio.done" not in body


@pytest.mark.parametrize("encoding", FORMATS)
@pytest.mark.slow
def test_piper_speaks_every_format_through_the_sdk(piper: LiveServer, encoding: str) -> None:
    with sdk(piper) as client:
        answer = client.audio.speech.create(
            model="tts-1",
            voice="alloy",
            input=TEXT,
            response_format=encoding,  # type: ignore[arg-type]
        )
    assert 2.0 < duration_s(answer.content, encoding) < 6.0
    assert loudness(answer.content, encoding) > 0.01


def test_piper_speaks_through_the_sdk(piper: LiveServer) -> None:
    with sdk(piper) as client:
        answer = client.audio.speech.create(model="tts-1", voice="marin", input="Good morning.")
    assert 0.5 < duration_s(answer.content, "mp3") < 2.5


@pytest.fixture(scope="module")
def piper() -> Iterator[LiveServer]:
    with serving("piper") as live:
        yield live
