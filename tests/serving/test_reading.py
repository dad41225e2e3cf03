"""No JSON body, whatever is in it, costs much more than the plainest one of its size."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from tests.serving.conftest import LiveServer, hear

from vivavoce.errors import InputError, VivavoceError
from vivavoce.serving.body import checked, parse_object
from vivavoce.serving.dialects.openai import OpenAISpeechBody

SIZE = 256 * 1024
MOST = 6
"""How many times what a plain list of numbers costs, which is some 3 ms where CPUs are slow."""


def repeated(opening: str, unit: str, ending: str) -> str:
    """``unit`` as often as it fits."""
    return opening + unit * ((SIZE - len(opening) - len(ending)) // len(unit)) + ending


def numbered(opening: str, unit: str, ending: str) -> str:
    """``unit`` with running numbers, parted by commas, as often as it fits."""
    units, size = [], len(opening) + len(ending)
    while size < SIZE - 32:
        units.append(unit % len(units))
        size += len(units[-1]) + 1
    return opening + ",".join(units) + ending


PLAIN = repeated('{"a": [', "1,", "1]}")
WORST = {
    "fields": numbered("{", '"%x":1', "}"),
    "fields with escapes": numbered("{", '"\\ud83d\\ude00%x":1', "}"),
    "the same field": repeated("{", '"a":1,', '"a":1}'),
    "options": numbered('{"input":"a","options":{', '"%x":1', "}}"),
    "wrong options": numbered('{"input":"a","options":{', '"%x":[]', "}}"),
    "a wrong lexicon": numbered('{"input":"a","lexicon":{', '"%x":1', "}}"),
    "a wrong small lexicon": json.dumps({"input": "a", "lexicon": dict.fromkeys("abc", 1)}),
    "a long lexicon": numbered('{"input":"a","lexicon":{', '"%x":"a"', "}}"),
    "a voice": numbered('{"input":"a","voice":{', '"%x":1', "}}"),
    "a list as input": repeated('{"input":[', "1,", "1]}"),
    "floats": repeated('{"a":[', "1.7976931348623157e308,", "1]}"),
    "floats and half a pair": repeated('{"b":"\\ud83d","a":[', "1.7976931348623157e308,", "1]}"),
    "large numbers": repeated('{"a":[', "9" * 4_299 + ",", "1]}"),
    "one number": repeated('{"seed":', "9", "}"),
    "one fraction": repeated('{"speed":1.', "9", "}"),
    "lists": repeated('{"a":[', "[],", "1]}"),
    "objects": repeated('{"a":[', '{"a":1},', "1]}"),
    "nested lists": '{"a":' + "[" * 130_000 + "]" * 130_000 + "}",
    "nested objects": '{"a":' * 40_000 + "1" + "}" * 40_000,
    "columns of lists": '{"a":[' + ",".join(["[" * 900 + "]" * 900] * 145) + "]}",
    "strings": repeated('{"a":[', '"",', "1]}"),
    "strings of brackets": repeated('{"a":[', '"[",', "1]}"),
    "escaped quotes and brackets": repeated('{"a":"', '\\"[', '"}'),
    "a string without end": repeated('{"a":"', "[", ""),
    "escapes": repeated('{"input":"', "\\u00e9", '"}'),
    "pairs": repeated('{"input":"', "\\ud83d\\ude00", '"}'),
    "halves": repeated('{"input":"', "\\ud83d", '"}'),
    "halves at the end": repeated('{"input":"', "\\\\", '\\ude00"}'),
    "pairs in a list": repeated('{"a":[', '"\\ud83d\\ude00",', "1]}"),
    "white space": repeated('{"a":', " ", "1}"),
    "brackets in a text": repeated('{"input":"', "[", '"}'),
}


def read(body: str) -> None:
    """What a route does with a body, whatever comes of it."""
    with suppress(VivavoceError):
        checked(parse_object(body.encode()), OpenAISpeechBody)


def cost_s(work: Callable[[], object]) -> float:
    """CPU time of this thread, the least of several."""
    costs = []
    for _ in range(7):
        began_s = time.thread_time()
        work()
        costs.append(time.thread_time() - began_s)
    return min(costs)


@pytest.mark.parametrize("body", WORST.values(), ids=WORST)
def test_no_body_costs_more_than_a_few_plain_ones(body: str) -> None:
    assert len(body) <= SIZE
    assert cost_s(lambda: read(body)) < MOST * cost_s(lambda: json.loads(PLAIN))


def test_a_hundred_fields_are_read_and_no_more() -> None:
    fields: dict[str, Any] = {str(at): at for at in range(100)}
    assert parse_object(json.dumps(fields)) == fields
    with pytest.raises(InputError, match="101 fields"):
        parse_object(json.dumps(fields | {"more": 1}))


def test_a_thousand_lists_and_objects_are_read_and_no_more() -> None:
    assert parse_object('{"a":[' + "[]," * 998 + "1]}")
    with pytest.raises(InputError, match="1000 lists"):
        parse_object('{"a":[' + "[]," * 999 + "1]}")
    assert parse_object(json.dumps({"input": "[" * 5_000 + '"{\\' * 500}))


def test_an_object_with_too_many_entries_is_named() -> None:
    def faults(field: str, entries: dict[str, Any]) -> str | None:
        try:
            checked({"input": "a", field: entries}, OpenAISpeechBody)
        except InputError as error:
            return error.param
        return None

    assert faults("options", {str(at): at for at in range(100)}) is None
    assert faults("options", {str(at): at for at in range(101)}) == "options"
    assert faults("lexicon", {str(at): "a" for at in range(1_000)}) is None
    assert faults("lexicon", {str(at): "a" for at in range(1_001)}) == "lexicon"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (r'{"input": "\ud800"}', "input"),
        (r'{"input": "\uDFFF."}', "input"),
        (r'{"input": "\udc00\ud800"}', "input"),
        (r'{"input": "\ud83d\ud83d\ude00"}', "input"),
        (r'{"input": "\ud83d\\ude00"}', "input"),
        (r'{"input": "a", "\ud800": 1}', "\ud800"),
        (r'{"input": "a", "lexicon": {"a": "\ud800"}}', "lexicon"),
        (r'{"input": "a", "lexicon": {"\ud800": "a"}}', "lexicon"),
        (r'{"input": "a", "x": [{"y": "\ud800"}]}', None),
    ],
)
def test_half_a_surrogate_pair_is_refused(body: str, param: str | None) -> None:
    with pytest.raises(InputError, match="surrogate") as refused:
        parse_object(body)
    assert refused.value.param == param


@pytest.mark.parametrize(
    "body",
    [
        r'{"input": "\ud83d\ude00"}',
        r'{"input": "\\ud83d"}',
        r'{"input": "\\\\ud83d \\\ud83d\ude00"}',
        r'{"input": "\uD83D\uDE00\u00e9\ud7ff\ue000"}',
        '{"input": "\U0001f600 \\n \\/ \\""}',
    ],
)
def test_whole_pairs_and_what_only_looks_like_half_of_one_are_read(body: str) -> None:
    assert parse_object(body) == json.loads(body)
    parse_object(body)["input"].encode()


def test_a_body_larger_than_the_default_is_read_where_the_owner_allows_it(serve: Any) -> None:
    server: LiveServer = serve(max_body_bytes=2_000_000)
    large = {"input": "Hello there.", "padding": "x" * 1_000_000}
    answer = server.client.post("/v1/audio/speech", json=large)
    assert (answer.status_code, answer.headers["x-ignored-fields"]) == (200, "padding")
    with server.socket() as connection:
        connection.send(json.dumps(large))
        assert hear(connection)[0][-1]["event"] == "done"


def test_a_body_over_256_kib_is_refused_by_default(server: LiveServer) -> None:
    body = json.dumps({"input": "Hello there.", "padding": "x" * SIZE})
    assert server.client.post("/v1/audio/speech", content=body).status_code == 413
    assert server.client.post("/v1/audio/speech", content=body[:-200] + '"}').status_code == 200
