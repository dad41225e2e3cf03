"""Bad input over HTTP: a 4xx in OpenAI's envelope that names the field, and no slot taken."""

from __future__ import annotations

import json
import socket

import pytest

OK = {"input": "Hello there."}
JSON = {"Content-Type": "application/json"}
PATHS = ["/v1/audio/speech", "/v1/audio/speech/stream", "/v1/audio/speech/stream/pcm"]

REFUSED = [
    ({"input": ""}, "input"),
    ({"input": " \n\t "}, "input"),
    ({"input": "?!… --"}, "input"),
    ({"input": "x" * 20_001}, "input"),
    ({"input": 7}, "input"),
    ({"input": None}, "input"),
    ({"voice": "nobody"}, "voice"),
    ({"voice": {"id": "nobody"}}, "voice"),
    ({"voice": 3}, "voice"),
    ({"speed": 0}, "speed"),
    ({"speed": 4.01}, "speed"),
    ({"speed": "fast"}, "speed"),
    ({"speed": "1.0"}, "speed"),
    ({"sample_rate": 7_999}, "sample_rate"),
    ({"sample_rate": 48_001}, "sample_rate"),
    ({"sample_rate": True}, "sample_rate"),
    ({"temperature": -0.1}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"seed": -1}, "seed"),
    ({"seed": 1.5}, "seed"),
    ({"language": "klingonese"}, "language"),
    ({"stream_mode": "words"}, "stream_mode"),
    ({"normalize": "yes"}, "normalize"),
    ({"lexicon": {"a": 1}}, "lexicon"),
    ({"lexicon": []}, "lexicon"),
    ({"input_type": "html"}, "input_type"),
    ({"priority": "urgent"}, "priority"),
    ({"options": {"nope": 1}}, "nope"),
    ({"options": {"nope": [1]}}, "options"),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=lambda value: str(value)[:40])
def test_bad_fields_are_refused_by_name(server, path, fields, param) -> None:
    answer = server.client.post(path, json=OK | fields)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert server.idle


@pytest.mark.parametrize(
    "field", [{"response_format": "wma"}, {"stream_format": "xml"}, {"model": 5}]
)
def test_bad_formats_are_refused_by_name(server, field) -> None:
    answer = server.speak(**field)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == next(iter(field))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"input": "\xff\xfe"}',
        b'{"input": "Hello.", "speed": NaN}',
        b'{"input": "Hello.", "foo": Infinity}',
        b'{"input": "Hello.", "speed": 1e999}',
        b'{"input": "Hello.", "seed": ' + b"9" * 5_000 + b"}",
        b'{"a":' * 50_000,
        b'{"input": "\\ud800 hello"}',
        b'{"input": "Hello.", "voice": "\\udfff"}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_bad_json_is_refused(server, path, body) -> None:
    answer = server.client.post(path, content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert server.idle


def test_a_lone_surrogate_does_not_break_the_answer(server) -> None:
    for field in ("input", "model", "voice", "options"):
        value = '{"\\ud800": 1}' if field == "options" else '"\\ud800 hello"'
        body = f'{{"input": "Hi.", "{field}": {value}}}'
        answer = server.client.post("/v1/audio/speech", content=body, headers=JSON)
        assert answer.status_code == 400
        assert json.loads(answer.content.decode("utf-8"))["error"]["param"] == field
    pair = server.client.post(
        "/v1/audio/speech", content=b'{"input": "Hi \\ud83d\\ude00."}', headers=JSON
    )
    assert pair.status_code == 200


def test_another_content_type_is_refused(server) -> None:
    answer = server.client.post("/v1/audio/speech", data=OK)
    assert answer.status_code == 400
    assert "application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/audio/speech", "POST"),
        ("PUT", "/v1/audio/voices", "GET, HEAD, POST"),
        ("POST", "/livez", "GET, HEAD"),
        ("PATCH", "/v1/audio/voices/x", "DELETE"),
    ],
)
def test_other_methods_are_405_with_allow(server, method, path, allowed) -> None:
    answer = server.client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert answer.json()["error"]["code"] == "method_not_allowed"


def test_an_unknown_path_is_a_404_in_the_envelope(server) -> None:
    answer = server.client.get("/v1/nothing")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "text",
    ["a", "Hi", "x" * 500, "1" * 2_000, "Привет 你好 שלום", "I am happy \U0001f600", "a\x00b\x07c"],
    ids=lambda text: repr(text[:12]),
)
def test_odd_text_is_spoken(server, text) -> None:
    answer = server.speak(input=text, response_format="pcm", speed=4)
    assert answer.status_code == 200
    assert len(answer.content) > 0


def test_an_engine_fault_before_the_first_sound_is_a_500(server) -> None:
    answer = server.speak(input="nanword")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert server.speak().status_code == 200


def test_http_1_0_has_a_reset_for_what_was_cut(server) -> None:
    body = json.dumps({"input": "failword and more", "response_format": "pcm"}).encode()
    head = (
        "POST /v1/audio/speech HTTP/1.0\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        raw.sendall(head.encode() + body)
        with pytest.raises(ConnectionResetError):
            while raw.recv(65_536):
                pass


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/audio/speech/stream/pcm"])
def test_a_fault_after_the_first_sound_cuts_the_body(server, path) -> None:
    import httpx

    body = {"input": "failword and more of it", "response_format": "pcm"}
    with pytest.raises(httpx.RemoteProtocolError):
        server.client.post(path, json=body)
    assert server.idle
    assert server.speak().status_code == 200
