"""The head of a request is small and comes soon; a body comes at some rate; or they are refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.inprocess import InnerServer, serving_here
from faults.rawcalls import upgrade_request
from faults.wire import (
    Answer,
    ask,
    chunked,
    chunks,
    dialled,
    head,
    heard_from,
    post,
    read_all,
    read_head,
    resident_bytes,
)
from quality.live import LiveServer, serving, settled

KIB = 1024
SPEECH = "/v1/audio/speech/stream/pcm"
BODY = json.dumps({"input": "Hello there."}).encode()
SOCKET = upgrade_request("/v1/audio/speech/ws").removesuffix(b"\r\n")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InnerServer]:
    limits = {"head_timeout_s": 0.5, "min_body_rate_bytes_s": 2_000.0}
    with serving_here(tmp_path_factory.mktemp("server"), **limits) as live:
        yield live


def padded(size: int) -> bytes:
    """A head of exactly ``size`` bytes."""
    bare = len(head("/livez", b"X-Pad: "))
    return head("/livez", b"X-Pad: " + b"x" * (size - bare))


def with_fields(count: int) -> bytes:
    """A head of exactly ``count`` fields."""
    return head("/livez", *[b"A:"] * (count - 2))


def with_url(length: int) -> bytes:
    """A head whose URL is ``length`` bytes."""
    return head("/livez?" + "x" * (length - len("/livez?")))


def code(answer: Answer) -> str:
    return str(json.loads(answer.body)["error"]["code"])


@pytest.mark.parametrize(
    ("make", "limit", "status", "name"),
    [
        (padded, 32 * KIB, 431, "head_too_large"),
        (with_fields, 100, 431, "head_too_large"),
        (with_url, 8 * KIB, 414, "url_too_long"),
    ],
    ids=["bytes", "fields", "url"],
)
def test_a_head_is_bounded(
    server: InnerServer, make: Callable[[int], bytes], limit: int, status: int, name: str
) -> None:
    assert ask(server.port, make(limit)).status == 200
    refused = ask(server.port, make(limit + 1))
    assert (refused.status, code(refused)) == (status, name)
    assert refused.headers["connection"] == "close"


def test_a_head_is_counted_while_it_arrives(server: InnerServer) -> None:
    """The end of the head never comes, nor need it."""
    pieces = [b"GET /livez HTTP/1.1\r\n", *[b"X: " + b"x" * 990 + b"\r\n"] * 40]
    assert ask(server.port, *pieces).status == 431
    assert ask(server.port, b"GET /" + b"x" * 9_000).status == 414


def test_line_ends_before_a_request_are_counted(server: InnerServer) -> None:
    assert ask(server.port, b"\r\n" * 20_000).status == 431


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([b"Cookie: " + b"x" * 40_000], 431),
        ([b"Cookie: " + b"x" * 9_000], 431),
        ([b"A:"] * 100, 431),
    ],
    ids=["bytes", "line", "fields"],
)
def test_an_upgrade_is_bounded_as_any_request(
    server: InnerServer, fields: list[bytes], status: int
) -> None:
    assert (
        ask(server.port, SOCKET, *[field + b"\r\n" for field in fields], b"\r\n").status == status
    )


def test_an_upgrade_to_a_long_url_is_refused(server: InnerServer) -> None:
    request = upgrade_request("/v1/audio/speech/ws?" + "x" * 9_000)
    assert ask(server.port, request).status == 414


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00\x01", b"CONNECT x:1 HTTP/1.1\r\n\r\n", head(version="2.0")],
    ids=["TLS", "CONNECT", "HTTP/2"],
)
def test_what_is_not_http_is_told_so_in_the_envelope(server: InnerServer, sent: bytes) -> None:
    refused = ask(server.port, sent)
    assert (refused.status, code(refused)) == (400, "invalid_request")


# Time.


@pytest.mark.parametrize(
    "begun",
    [b"GET /livez HT", b"\r\n", head("/livez").removesuffix(b"\r\n"), SOCKET],
    ids=["request line", "line end", "fields", "upgrade"],
)
def test_a_head_that_does_not_come_is_given_up(server: InnerServer, begun: bytes) -> None:
    refused = ask(server.port, begun)
    assert (refused.status, code(refused)) == (408, "request_timeout")


def test_a_head_that_trickles_is_given_up(server: InnerServer) -> None:
    with dialled(server.port) as raw:
        for byte in with_fields(90):
            if heard_from(raw):
                break
            raw.sendall(bytes([byte]))
            time.sleep(0.02)
        assert read_all(raw).status == 408


def test_a_connection_that_sends_nothing_is_closed(server: InnerServer) -> None:
    with dialled(server.port) as raw:
        assert read_all(raw).raw == b""


def test_a_kept_connection_that_sends_nothing_more_is_closed(server: InnerServer) -> None:
    kept = head("/livez").replace(b"Connection: close\r\n", b"")
    answer = ask(server.port, kept)
    assert answer.status == 200
    assert answer.body.endswith(b"}")


def test_a_kept_connection_that_sends_half_a_head_is_given_up(server: InnerServer) -> None:
    with dialled(server.port) as raw:
        raw.sendall(head("/livez").replace(b"Connection: close\r\n", b""))
        assert read_head(raw).startswith(b"HTTP/1.1 200 ")
        raw.sendall(b"GET /li")
        assert b"408 Request Timeout" in read_all(raw).raw


@pytest.mark.parametrize("sent", [b"", BODY[:-1]], ids=["nothing", "half"])
def test_a_body_that_does_not_come_is_given_up(server: InnerServer, sent: bytes) -> None:
    request = post(SPEECH, BODY).removesuffix(BODY) + sent
    refused = ask(server.port, request)
    assert (refused.status, code(refused)) == (408, "request_timeout")


def test_a_body_behind_a_refusal_is_given_up_too(server: InnerServer) -> None:
    """The answer came early, and the body may not hold the connection for ever."""
    request = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\nx"
    assert ask(server.port, request).status == 404


def test_a_slow_but_honest_upload_passes(server: InnerServer) -> None:
    body = json.dumps({"input": "Hello there.", "padding": "x" * 8_000}).encode()
    request = post(SPEECH, body, b"Connection: close")
    with dialled(server.port) as raw:
        for at in range(0, len(request), 400):
            raw.sendall(request[at : at + 400])
            time.sleep(0.05)
        assert read_all(raw).status == 200


def test_a_client_that_waits_to_be_asked_for_its_body_is_not_slow(server: InnerServer) -> None:
    request = post(SPEECH, BODY, b"Expect: 100-continue", b"Connection: close")
    with dialled(server.port) as raw:
        raw.sendall(request.removesuffix(BODY))
        assert read_head(raw).startswith(b"HTTP/1.1 100 ")
        raw.sendall(BODY)
        assert read_all(raw).status == 200


# Chunks.


def test_a_body_in_tiny_chunks_is_read(server: InnerServer) -> None:
    assert ask(server.port, chunked(SPEECH, chunks(BODY, 1) + b"0\r\n\r\n")).status == 200


@pytest.mark.parametrize(
    "framed",
    [
        chunks(BODY + b" " * 65_000, 1),
        b"1;" + b"x" * 100_000 + b"\r\n{\r\n",
        b"".join(b"1;x=%0999d\r\n{\r\n" % at for at in range(40)),
    ],
    ids=["65,000 chunks", "an extension", "extensions"],
)
def test_framing_may_not_outweigh_the_body(server: InnerServer, framed: bytes) -> None:
    refused = ask(server.port, chunked(SPEECH, framed + b"0\r\n\r\n"))
    assert (refused.status, code(refused)) == (400, "invalid_request")


def test_trailers_are_bounded_and_change_nothing(server: InnerServer) -> None:
    last = b"0\r\n" + b"X-Request-ID: trailer\r\n" * 50 + b"\r\n"
    spoken = ask(server.port, chunked(SPEECH, chunks(BODY, 9) + last))
    assert spoken.status == 200
    assert spoken.headers["x-request-id"] != "trailer"
    flood = b"0\r\n" + b"A:\r\n" * 101 + b"\r\n"
    assert ask(server.port, chunked(SPEECH, chunks(BODY, 9) + flood)).status == 431


# Memory.


@pytest.fixture(scope="module", params=["", "a-key-that-is-long-enough"], ids=["open", "locked"])
def process(request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    keys = {"api_keys": request.param} if request.param else {}
    with serving("fake", keys) as live:
        yield live


@pytest.mark.parametrize(
    "bomb",
    [
        [head("/livez").removesuffix(b"\r\n"), *[b"a:\r\n" * 250_000] * 20],
        [head("/livez").removesuffix(b"\r\n"), *[(b"a: " + b"x" * 1_000 + b"\r\n") * 1_000] * 20],
        [b"GET /", *[b"x" * 1_000_000] * 20],
        [SOCKET, *[b"a:\r\n" * 250_000] * 20],
    ],
    ids=["empty fields", "long fields", "url", "upgrade"],
)
def test_heads_of_twenty_megabytes_take_no_memory(process: LiveServer, bomb: list[bytes]) -> None:
    for _ in range(2):  # what the first ones warm up is not counted
        assert ask(process.port, bomb[0], b"x\r\n" * 20_000).status in (400, 414, 431)
    before = resident_bytes(process.process.pid)
    for _ in range(3):
        assert ask(process.port, *bomb).status in (414, 431)
    grown = settled(
        lambda: resident_bytes(process.process.pid) - before, lambda grown: grown < 4_000_000
    )
    assert grown < 4_000_000


def test_refused_heads_are_one_line_each_in_the_log(tmp_path: Path) -> None:
    with serving("fake", {"log_format": "json"}) as live:
        for _ in range(5):
            ask(live.port, with_fields(200))
        lines = settled(
            lambda: [line for line in live.log_lines() if "refused" in line],
            lambda found: len(found) >= 5,
        )
    assert len(lines) == 5
    assert all(json.loads(line)["code"] == "head_too_large" for line in lines)


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_body_over_the_limit_is_told_so_also_while_it_is_sent(
    server: InnerServer, framing: str
) -> None:
    body = b"x" * 3_000_000
    whole = post(SPEECH, body, b"Connection: close")
    if framing == "chunks":
        whole = chunked(SPEECH, chunks(body, 60_000) + b"0\r\n\r\n")
    refused = ask(server.port, whole)
    assert (refused.status, code(refused)) == (413, "body_too_large")
    assert not refused.reset


def test_a_body_without_end_is_not_read_for_ever(server: InnerServer) -> None:
    endless = [chunks(b"x" * 1_000_000, 100_000)] * 100
    assert ask(server.port, chunked(SPEECH, b""), *endless).status in (0, 413)
    assert settled(lambda: len(server.connections), lambda count: count == 0) == 0
