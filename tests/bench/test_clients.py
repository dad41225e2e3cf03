from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from typing import Any

import pytest

from vivavoce.bench.clients import Target, open_speaker
from vivavoce.bench.clients.base import failure_from, now_s
from vivavoce.bench.heard import Failure, Listening, Measure, Recorder

LISTENING = Listening(buffers_ms=(0.0, 1000.0))


def ask(target: Target, *texts: str) -> list[Measure]:
    async def run() -> list[Measure]:
        speaker = open_speaker(target)
        try:
            return [await speaker.speak(text, Recorder(text, now_s(), LISTENING)) for text in texts]
        finally:
            await speaker.aclose()

    return asyncio.run(run())


@pytest.fixture(params=["http", "pcm", "wav", "ws"])
def target(request: pytest.FixtureRequest, stand_in: Any) -> Target:
    target = Target(url=stand_in.url)
    match request.param:
        case "pcm":
            return replace(target, path="/v1/audio/speech/stream/pcm")
        case "wav":
            return replace(target, response_format="wav")
        case "ws":
            return replace(target, transport="ws")
    return target


def code_of(measure: Measure) -> str | None:
    return measure.failure.code if measure.failure else None


def test_a_stream_is_measured_whole(stand_in: Any, target: Target) -> None:
    (measure,) = ask(target, "hello")
    assert measure.failure is None
    assert measure.sample_rate_hz == stand_in.rate_hz
    assert measure.audio_s == pytest.approx(stand_in.audio_s)
    assert measure.first_byte_ms is not None and measure.first_playable_ms is not None
    assert 0 < measure.first_byte_ms <= measure.first_playable_ms <= measure.total_ms


def test_a_planted_stall_is_an_underrun_a_buffer_can_hide(target: Target) -> None:
    (measure,) = ask(target, "STALL")
    strict, buffered = measure.playback
    assert strict.underruns >= 1
    assert strict.stalled_ms > 0
    assert buffered.underruns == 0


def test_leading_silence_counts_into_audible(target: Target) -> None:
    (measure,) = ask(target, "SILENCE")
    assert measure.audible_ms is not None and measure.first_playable_ms is not None
    assert measure.audible_ms - measure.first_playable_ms >= 199


def test_a_stream_that_breaks_off_is_failed(target: Target) -> None:
    (measure,) = ask(target, "BREAK")
    assert code_of(measure) == "truncated"
    assert measure.audio_s > 0


def test_half_a_sample_at_the_end_is_failed(target: Target) -> None:
    assert code_of(ask(target, "ODD")[0]) == "truncated"


def test_a_refusal_tells_when_to_try_again(target: Target) -> None:
    (measure,) = ask(target, "REJECT")
    assert measure.failure is not None
    assert (measure.failure.code, measure.failure.status) == ("busy", 429)
    assert measure.failure.retry_after_ms == (700 if target.transport == "ws" else 1500)


def test_an_error_keeps_its_code_and_the_next_request_works(target: Target) -> None:
    fault, good = ask(target, "FAULT", "hello")
    assert code_of(fault) == "engine_error"
    assert good.ok


def test_what_is_asked_for_arrives(stand_in: Any, target: Target) -> None:
    asked = replace(target, voice="joe", api_key="key-1", sample_rate_hz=8000)
    ask(asked, "hello")
    body = stand_in.bodies[0]
    assert (body["input"], body["voice"], body["sample_rate"]) == ("hello", "joe", 8000)
    assert stand_in.keys == ["Bearer key-1"]
    assert "key-1" not in repr(asked)


def test_a_server_that_is_not_there(target: Target) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        (measure,) = ask(replace(target, url=url), "hello")
    assert code_of(measure) == "unreachable"


def test_a_path_that_is_not_there(target: Target) -> None:
    (measure,) = ask(replace(target, path="/nowhere"), "hello")
    assert measure.failure is not None
    expected = 403 if target.transport == "ws" else 404
    assert measure.failure.status == expected


def test_silence_from_the_server_ends_in_a_timeout(stand_in: Any) -> None:
    (measure,) = ask(Target(url=stand_in.url, timeout_s=0.2), "HANG")
    assert code_of(measure) == "timeout"


@pytest.mark.parametrize(("transport", "code"), [("http", "not_audio"), ("ws", "protocol")])
def test_an_announcement_that_cannot_be_read_is_failed(
    stand_in: Any, transport: Any, code: str
) -> None:
    target = Target(url=stand_in.url, transport=transport)
    assert code_of(ask(target, "ODDRATE")[0]) == code


def test_an_empty_answer_is_failed(stand_in: Any) -> None:
    assert code_of(ask(Target(url=stand_in.url), "NOTHING")[0]) == "no_audio"


@pytest.mark.parametrize(
    ("body", "status", "headers", "failure"),
    [
        ({"error": {"code": "busy", "message": "m"}}, 429, {"retry-after": "2"},
         Failure("busy", 429, 2000.0, "m")),
        ({"error": {"code": None, "type": "rate_limit"}}, 429, {"retry-after-ms": "15"},
         Failure("rate_limit", 429, 15.0)),
        (None, 502, {}, Failure("http_502", 502)),
        ({"event": "error", "error": {"code": "x"}}, None, {}, Failure("x")),
        ({"event": "error", "detail": "d"}, None, {}, Failure("error", message="d")),
        (["list"], 500, {"retry-after": "Wed, 21 Oct"}, Failure("http_500", 500)),
    ],
)  # fmt: skip
def test_error_answers_are_read(
    body: object, status: int | None, headers: dict[str, str], failure: Failure
) -> None:
    assert failure_from(body, status=status, headers=headers) == failure
