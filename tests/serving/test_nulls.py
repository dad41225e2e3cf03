"""In JSON null is "not given", for every field of every endpoint and of a WebSocket's messages."""

from __future__ import annotations

from typing import Any

import pytest

from vivavoce.errors import InputError
from vivavoce.serving.body import SpeechBody, checked
from vivavoce.serving.dialects.openai import OpenAISpeechBody
from vivavoce.serving.dialects.play import PlayBody, TextBody
from vivavoce.serving.dialects.websocket import SocketSpeechBody
from vivavoce.serving.minting import TokenBody
from vivavoce.serving.openapi import BODIES, FORMS

NEEDED: dict[Any, dict[str, Any]] = {
    OpenAISpeechBody: {"input": "Hi."},
    SpeechBody: {"input": "Hi."},
    SocketSpeechBody: {"input": "Hi."},
    PlayBody: {"input": "Hi."},
    TextBody: {"text": "Hi."},
    TokenBody: {},
}
FIELDS = [
    (model, name) for model, needed in NEEDED.items() for name in {*model.model_fields} - {*needed}
]


def test_every_json_body_is_among_them() -> None:
    assert set(BODIES) - set(FORMS) <= set(NEEDED)


@pytest.mark.parametrize(
    ("model", "name"), sorted(FIELDS, key=str), ids=lambda each: getattr(each, "__name__", each)
)
def test_a_field_that_is_null_is_not_given(model: Any, name: str) -> None:
    needed = NEEDED[model]
    assert checked(needed | {name: None}, model) == checked(needed, model)


@pytest.mark.parametrize("model", NEEDED)
def test_what_is_needed_must_not_be_null(model: Any) -> None:
    for name in NEEDED[model]:
        with pytest.raises(InputError) as caught:
            checked({name: None}, model)
        assert caught.value.param == name


def test_null_among_options_and_pronunciations() -> None:
    given = {"options": {"top_k": None, "top_p": 0.5}, "lexicon": {"a": None, "b": "bee"}}
    request = checked({"input": "Hi."} | given, SpeechBody).to_request()
    assert (request.options, request.lexicon) == ({"top_p": 0.5}, {"b": "bee"})


def test_an_unknown_field_that_is_null_is_no_ignored_one(server) -> None:
    answer = server.speak(unheard_of=None, speed=None, response_format=None, stream=None)
    assert answer.status_code == 200
    assert "x-ignored-fields" not in answer.headers
    with pytest.raises(InputError):
        checked({"limit_misspelt": None}, TokenBody)


@pytest.mark.parametrize("path", ["/v1/audio/speech/stream", "/v1/audio/speech/stream/pcm"])
def test_the_streams_take_them(server, path: str) -> None:
    nulls = {name: None for name in SpeechBody.model_fields if name != "input"}
    assert server.client.post(path, json={"input": "Hi."} | nulls).status_code == 200


def test_the_description_says_so(server) -> None:
    schemas = server.client.get("/openapi.json").json()["components"]["schemas"]
    speed = schemas["OpenAISpeechBody"]["properties"]["speed"]
    assert {"type": "null"} in speed["anyOf"] and speed["default"] == 1.0
    for model in set(BODIES) - set(FORMS):
        described = schemas[model.__name__]
        for name, field in described["properties"].items():
            nullable = {"type": "null"} in field.get("anyOf", ())
            assert nullable is (name not in described.get("required", ())), (model, name)
