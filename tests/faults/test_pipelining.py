"""A request sent before the last one was answered is refused, and hides no hang-up."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator

import pytest

from faults.inprocess import InnerServer, serving_here
from faults.wire import Answer, ask, dialled, hang_up, head, post, read_all, read_head
from quality.live import settled
from vivavoce.serving import responses

SPEECH = "/v1/audio/speech/stream/pcm"
WHOLE = "/v1/audio/speech"
TEXT = {"input": "A sentence that goes on for quite some time. " * 20}
SHORT = json.dumps({"input": "Hello there."}).encode()
LONG = json.dumps(TEXT).encode()
WHOLE_LONG = json.dumps(TEXT | {"stream": False}).encode()
NEXT = head("/livez")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InnerServer]:
    folder = tmp_path_factory.mktemp("server")
    with serving_here(folder, capacity=2, max_queue_depth=32, fake={"step_ms": 50.0}) as live:
        yield live


def taken(server: InnerServer) -> int:
    admission = server.service.admission
    return admission.running + admission.waiting


def refusal(answer: Answer) -> dict[str, str]:
    """The second answer, which is a refusal."""
    second = answer.raw.rpartition(b"HTTP/1.1 400 Bad Request\r\n")[2]
    assert b"\r\nconnection: close\r\n" in b"\r\n" + second.lower()
    error: dict[str, str] = json.loads(second.partition(b"\r\n\r\n")[2])["error"]
    return error


def test_what_is_pipelined_is_refused_after_the_answer(server: InnerServer) -> None:
    answer = ask(server.port, post(SPEECH, SHORT) + NEXT)
    assert answer.status == 200
    assert b"\r\n0\r\n\r\nHTTP/1.1 400 " in answer.raw
    assert refusal(answer)["code"] == "pipelining_refused"


def test_a_request_that_follows_in_mid_answer_is_refused_too(server: InnerServer) -> None:
    with dialled(server.port) as raw:
        raw.sendall(post(SPEECH, SHORT))
        received = read_head(raw)
        raw.sendall(NEXT)
        while data := raw.recv(65_536):
            received += data
    assert refusal(Answer(received))["code"] == "pipelining_refused"


def test_requests_one_after_the_other_are_all_answered(server: InnerServer) -> None:
    with dialled(server.port) as raw:
        for _ in range(3):
            raw.sendall(NEXT.replace(b"close", b"keep-alive"))
            assert read_head(raw).startswith(b"HTTP/1.1 200 ")
            raw.recv(65_536)


def answered(raw: socket.socket) -> bytes:
    """One answer whose length is known, and not a byte more."""
    received = read_head(raw)
    length = int(Answer(received).headers["content-length"])
    while length > 0:
        data = raw.recv(length)
        received, length = received + data, length - len(data)
    return received


@pytest.mark.parametrize("encoding", ["wav", "pcm"])
def test_whole_files_one_after_the_other_are_all_answered(
    server: InnerServer, encoding: str
) -> None:
    """The next request is there as soon as the last byte is, before the server has looked up."""
    body = json.dumps({"input": "Hi.", "response_format": encoding, "stream": False}).encode()
    with dialled(server.port) as raw:
        for _ in range(60):
            raw.sendall(post(WHOLE, body))
            assert answered(raw).startswith(b"HTTP/1.1 200 ")


def test_a_request_may_come_while_the_application_still_ends_the_last_answer(
    server: InnerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes were sent; only that these were the last is not said yet."""
    ends = responses._Body.end

    async def end_later(self: responses._Body, data: bytes) -> None:
        await self.send(data)
        await asyncio.sleep(0.05)
        await ends(self, b"")

    monkeypatch.setattr(responses._Body, "end", end_later)
    body = json.dumps({"input": "Hi.", "response_format": "wav", "stream": False}).encode()
    with dialled(server.port) as raw:
        for _ in range(5):
            raw.sendall(post(WHOLE, body))
            assert answered(raw).startswith(b"HTTP/1.1 200 ")
        raw.sendall(head("/livez"))
        assert read_all(raw).status == 200


def test_line_ends_behind_a_body_are_no_request(server: InnerServer) -> None:
    answer = ask(server.port, post(SPEECH, SHORT, b"Connection: close") + b"\r\n\r\n")
    assert answer.status == 200
    assert answer.raw.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("behind", [NEXT, NEXT * 50, post(SPEECH, SHORT), b"\r\n", b"junk"])
@pytest.mark.parametrize("body", [LONG, WHOLE_LONG], ids=["stream", "whole"])
def test_a_caller_with_a_request_behind_frees_its_slot_when_it_leaves(
    server: InnerServer, body: bytes, behind: bytes
) -> None:
    with dialled(server.port) as raw:
        raw.sendall(post(WHOLE, body) + behind)
        assert settled(lambda: server.service.lifecycle.loop.live, bool)
        at_close = server.engine.steps
        hang_up(raw)
    assert settled(lambda: taken(server), lambda count: count == 0) == 0
    assert settled(lambda: server.service.lifecycle.loop.live, lambda live: live == 0) == 0
    assert server.engine.steps - at_close < 20  # all of it takes hundreds


def test_a_queue_of_pipelining_callers_is_empty_when_they_have_left(server: InnerServer) -> None:
    raws = []
    for _ in range(30):
        with dialled(server.port) as raw:
            raw.sendall(post(SPEECH, LONG) + NEXT)
            raws.append(raw.dup())
    assert settled(lambda: server.service.admission.waiting, lambda count: count == 28) == 28
    for raw in raws:
        hang_up(raw)
    assert settled(lambda: taken(server), lambda count: count == 0) == 0


def test_a_flood_behind_a_request_ends_the_connection(server: InnerServer) -> None:
    answer = ask(server.port, post(SPEECH, LONG), *[NEXT * 1_000] * 20)
    assert answer.reset
    assert settled(lambda: taken(server), lambda count: count == 0) == 0
