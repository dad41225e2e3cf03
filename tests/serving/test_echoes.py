"""An error repeats what was sent, so that it can be found, and never more than a line of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.serving.conftest import LiveServer, hear

from vivavoce.errors import InputError
from vivavoce.serving.problems import MAX_MESSAGE_CHARS, MAX_PARAM_CHARS, error_detail

HUGE = "huge" * 40_000
WORST = 2_500
"""Bytes of an answer; most of them may be the names of known voices."""

BODIES: dict[str, dict[str, Any]] = {
    "language": {"language": HUGE},
    "a language that fits": {"language": "q" * 64},
    "voice": {"voice": HUGE},
    "voice by id": {"voice": {"id": HUGE}},
    "model": {"model": HUGE},
    "response_format": {"response_format": HUGE},
    "stream_mode": {"stream_mode": HUGE},
    "input_type": {"input_type": HUGE},
    "priority": {"priority": HUGE},
    "instructions": {"instructions": HUGE},
    "speed": {"speed": HUGE},
    "seed": {"seed": HUGE},
    "an option": {"options": {HUGE: 1}},
    "a word": {"lexicon": {HUGE: "x"}},
    "a blank word": {"lexicon": {" " * 4: "x"}},
    "a word's sound": {"lexicon": {"x": "/" + HUGE}},
    "half a pair": {HUGE + "\\ud800": 1},
    "say-as": {"input": f'<speak><say-as interpret-as="{HUGE[:9000]}">a</say-as></speak>'},
    "alphabet": {"input": f'<speak><phoneme alphabet="{HUGE[:9000]}" ph="a">a</phoneme></speak>'},
    "strength": {"input": f'<speak><break strength="{HUGE[:9000]}"/>Hi.</speak>'},
    "time": {"input": f'<speak><break time="{HUGE[:9000]}"/>Hi.</speak>'},
    "tag": {"input": f"<speak><{HUGE[:9000]}>a</{HUGE[:9000]}></speak>"},
}


def body_of(kind: str) -> str:
    fields = {"input": "Hi."} | BODIES[kind]
    if fields["input"].startswith("<speak>"):
        fields["input_type"] = "ssml"
    return json.dumps(fields).replace("\\\\ud800", "\\ud800")


@pytest.mark.parametrize("kind", BODIES)
def test_no_field_comes_back_whole(server: LiveServer, kind: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = server.client.post("/v1/audio/speech", content=body_of(kind), headers=headers)
    assert 400 <= answer.status_code < 500 or kind == "tag"
    assert len(answer.content) < WORST or answer.status_code == 200


@pytest.mark.parametrize("kind", sorted(BODIES.keys() - {"model", "tag"}))
def test_no_field_comes_back_whole_on_a_socket(server: LiveServer, kind: str) -> None:
    with server.socket() as connection:
        connection.send(body_of(kind))
        events, _ = hear(connection)
    assert events[-1]["event"] == "error"
    assert len(json.dumps(events[-1])) < 2 * WORST, "the message comes under two names"


@pytest.mark.parametrize("name", ["language", "response_format", "speed", "consent", "ref_text"])
def test_no_field_of_a_form_comes_back_whole(
    server: LiveServer, wav_recording: bytes, name: str
) -> None:
    fields = {"input": "Hi.", name: HUGE}
    file = {"file": wav_recording}
    answer = server.client.post("/v1/audio/speech/clone", data=fields, files=file)
    assert answer.status_code == 400
    assert len(answer.content) < WORST


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/" + HUGE[:7_000], {}),
        ("/v1/audio/voices/" + HUGE[:7_000], {}),
        ("/v1/models/" + HUGE[:7_000], {}),
        ("/v1/audio/speech", {"Content-Type": HUGE[:20_000]}),
        ("/v1/audio/speech", {"Origin": "http://" + HUGE[:20_000]}),
        ("/v1/audio/speech", {"Host": HUGE[:20_000]}),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_nor_does_an_address_or_a_header(
    server: LiveServer, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = server.client.request(method, path, headers=headers, content=b"{}")
    assert 400 <= answer.status_code < 500
    assert len(answer.content) < WORST


def test_whatever_an_error_says_an_answer_is_short() -> None:
    detail = error_detail(InputError(HUGE, param=HUGE))
    assert len(detail["message"]) == MAX_MESSAGE_CHARS
    assert len(detail["param"]) == MAX_PARAM_CHARS
    detail = error_detail(InputError("Short.", param="input"))
    assert (detail["message"], detail["param"]) == ("Short.", "input")
