"""Uploads that never end: they fill neither memory nor a disk, and give back what they took."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from audio import recordings
from faults.inprocess import InnerServer, serving_here
from faults.uploads import CLONE, VOICES, upload
from faults.wire import dialled, read_all, resident_bytes
from quality.live import LiveServer, serving, settled
from vivavoce.serving.middleware import UPLOAD_BYTES, UPLOADS_AT_ONCE, BodyLimits

MB = 1_000_000
MANY = 40
FILE_BYTES = 2_900 * 1024
TEXT = b"a" * (MB - 100)
PART = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    with serving("fake", {"log_format": "json"}) as server:
        yield server


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[InnerServer]:
    with serving_here(tmp_path) as server:
        yield server


def rss_mb(server: LiveServer) -> float:
    return resident_bytes(server.process.pid) / MB


def form_head(path: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    ).encode()


def texts(count: int) -> bytes:
    return b"".join(PART % (b"f%d" % at, b"", TEXT) for at in range(count))


def files(count: int) -> bytes:
    return b"".join(
        PART % (b"f%d" % at, b'; filename="x"', b"a" * FILE_BYTES) for at in range(count)
    )


@contextmanager
def unfinished(port: int, count: int, body: bytes) -> Iterator[list[socket.socket]]:
    """Forms that lack their end; the server may refuse any of them meanwhile."""
    with ExitStack() as stack:
        raws = [stack.enter_context(dialled(port)) for _ in range(count)]
        for raw in raws:
            try:
                raw.sendall(form_head(VOICES, len(body) + 1_000) + body)
            except ConnectionError:
                continue
        yield raws


def answered(raw: socket.socket, patience_s: float = 1.0) -> bytes:
    """The beginning of an answer; nothing where there is none yet."""
    raw.settimeout(patience_s)
    try:
        return raw.recv(65_536)
    except (TimeoutError, ConnectionError):
        return b""


def test_text_fields_of_unfinished_forms_fill_no_memory(live: LiveServer) -> None:
    before_mb = rss_mb(live)
    with unfinished(live.port, MANY, texts(11)) as raws:
        assert all(answered(raw, 30).startswith(b"HTTP/1.1 400") for raw in raws)
        assert rss_mb(live) - before_mb < 40
    assert rss_mb(live) - before_mb < 40


def test_files_of_unfinished_forms_stay_out_of_memory_and_within_a_bound_on_disk(
    live: LiveServer,
) -> None:
    before_mb = rss_mb(live)
    with unfinished(live.port, MANY, files(4)) as raws:
        assert rss_mb(live) - before_mb < 40
        refused = [each for each in (answered(raw) for raw in raws) if each]
        assert all(each.startswith(b"HTTP/1.1 503") for each in refused)
        assert all(b"too_many_bodies" in each for each in refused)
        assert all(b"retry-after: 2\r\n" in each.lower() for each in refused)
        assert len(refused) >= MANY - UPLOAD_BYTES // (4 * FILE_BYTES)
        with live.client() as client:
            assert client.post("/v1/audio/speech", json={"input": "Hi."}).status_code == 200
    with live.client() as client:  # those who have left took nothing with them
        settled(lambda: upload(client, CLONE, recordings.recording("wav")).status_code == 200, bool)
        assert upload(client, CLONE, recordings.recording("wav")).status_code == 200


def test_as_many_uploads_as_may_be_are_read_at_once_and_the_next_is_told_before_its_body(
    live: LiveServer,
) -> None:
    with unfinished(live.port, UPLOADS_AT_ONCE, b"--b\r\n") as raws, dialled(live.port) as late:
        time.sleep(0.5)
        late.sendall(form_head(CLONE, 1_000_000))
        answer = read_all(late)
        assert answer.status == 503
        assert b"too_many_bodies" in answer.body
        assert answer.headers["retry-after"] == "2"
        assert not any(answered(raw, 0.001) for raw in raws)
    with live.client() as client:
        settled(lambda: upload(client, CLONE, recordings.recording("wav")).status_code == 200, bool)
        assert upload(client, CLONE, recordings.recording("wav")).status_code == 200


@pytest.mark.parametrize(
    "head",
    [b'--b\r\nContent-Disposition: form-data; name="f"\r\n', b"--b\r\nX-A: b\r\n"],
)
def test_heads_of_parts_count_as_text(inner: InnerServer, head: bytes) -> None:
    many = (head + b"X-Padding: " + b"a" * 3_000 + b"\r\n\r\n\r\n") * 100
    with dialled(inner.port) as raw:
        raw.sendall(form_head(VOICES, len(many) + 1_000) + many)
        assert answered(raw, 30).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (VOICES, "multipart/form-data; boundary=b"),
        ("/v1/audio/speech", "application/json"),
    ],
)
def test_no_body_may_take_longer_than_a_request_however_steadily_it_comes(
    path: str, kind: str, tmp_path: Path
) -> None:
    settings = {"request_timeout_s": 1.0, "head_timeout_s": 0.5, "min_body_rate_bytes_s": 1.0}
    with serving_here(tmp_path, **settings) as server, dialled(server.port) as raw:
        head = form_head(path, 100_000).replace(b"multipart/form-data; boundary=b", kind.encode())
        raw.sendall(head + b"--b\r\n")
        answer, began_s = b"", time.monotonic()
        while not answer and time.monotonic() - began_s < 10:
            raw.sendall(b"a" * 100)
            answer = answered(raw, 0.1)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"within 1 s" in answer


def test_an_upload_that_still_comes_hears_that_the_engine_was_given_up(inner: InnerServer) -> None:
    with dialled(inner.port) as raw:
        raw.sendall(form_head(CLONE, 1_000_000) + b"--b\r\n")
        assert answered(raw, 0.3) == b""
        inner.service.lifecycle.loop.condemn("It hangs.")
        answer = b""
        while b"engine_failed" not in answer and (more := answered(raw, 30)):
            answer += more
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"engine_failed" in answer


def test_a_text_of_the_longest_characters_may_still_come_with_a_recording(
    inner: InnerServer,
) -> None:
    with httpx.Client(base_url=inner.url, trust_env=False, timeout=60) as client:
        text = "Hi. " + "\U0001d400" * 19_990
        answer = upload(client, CLONE, recordings.recording("wav"), input=text)
        assert answer.status_code in (200, 400)
        assert "larger than" not in answer.text


# All bodies together, whatever they are.


async def _read_whole(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["more_body"]:
        pass
    await PlainTextResponse("read")(scope, receive, send)


def test_bodies_that_never_end_leave_room_for_what_callers_usually_send(
    inner: InnerServer,
) -> None:
    head = (
        b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: 262144\r\n"
        b"Content-Type: application/json\r\n\r\n"
    )
    begun = head + b'{"input": "' + b"a" * 250_000
    with ExitStack() as stack:
        raws = [stack.enter_context(dialled(inner.port)) for _ in range(320)]
        for raw in raws:
            raw.sendall(begun)
        refused = settled(lambda: sum(bool(answered(raw, 0.001)) for raw in raws), bool)
        assert refused
        with httpx.Client(base_url=inner.url, trust_env=False, timeout=60) as client:
            said = client.post("/v1/audio/speech", json={"input": "Hello. " * 1_500})
            assert said.status_code == 200
            large = client.post("/v1/audio/speech", json={"input": "Hello. ", "x": "a" * 200_000})
            assert (large.status_code, large.json()["error"]["code"]) == (503, "too_many_bodies")


class Call:
    """A request to the middleware alone: its pieces come when they are told to."""

    def __init__(self, limits: BodyLimits, kind: str) -> None:
        self.sent: list[Message] = []
        self._pieces: asyncio.Queue[Message] = asyncio.Queue()
        headers = [(b"content-type", kind.encode())]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        self.task = asyncio.ensure_future(limits(scope, self._pieces.get, self._send))

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    async def come(self, size: int, *, more: bool = True) -> None:
        self._pieces.put_nowait({"type": "http.request", "body": b"a" * size, "more_body": more})
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
async def test_all_bodies_together_are_bounded_and_give_their_room_back(kind: str) -> None:
    limits = BodyLimits(_read_whole, 10, 10)
    space = limits.uploads if "multipart" in kind else limits.plain
    space.most_bytes, space.own_bytes = 15, 0
    first, second = Call(limits, kind), Call(limits, kind)
    await first.come(9)
    await second.come(6)
    assert space.used_bytes == 15
    await second.come(1)
    with pytest.raises(Exception, match="leave no room"):
        await second.task
    assert space.used_bytes == 9
    await first.come(1, more=False)
    await first.task
    assert first.sent[0]["status"] == 200
    assert (space.used_bytes, space.count) == (0, 0)


async def test_whoever_leaves_gives_the_room_back() -> None:
    limits = BodyLimits(_read_whole, 10, 10)
    call = Call(limits, "multipart/form-data; boundary=b")
    await call.come(7)
    assert (limits.uploads.used_bytes, limits.uploads.count) == (7, 1)
    call.task.cancel()
    await asyncio.wait({call.task})
    assert (limits.uploads.used_bytes, limits.uploads.count) == (0, 0)
