"""The last message of an answer is read, or its connection is dropped, as soon as any other."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.inprocess import InnerServer, serving_here
from faults.rawcalls import form_request, text_frame, upgrade_request
from faults.wire import dialled, head, post, read_all, read_head
from quality.live import settled

STALL_S = 0.6
ROOM_BYTES = 4_096
SPEECH = "/v1/audio/speech"
SOCKET = "/v1/audio/speech/ws"
# Half a minute of sound at 48,000 Hz: more than the kernel keeps for a reader with little room.
TEXT = "Nobody listens to this story. " * 15
BODIES = {
    "whole": {"response_format": "wav", "stream": False},
    "stream": {"response_format": "pcm"},
    "events": {"response_format": "pcm", "stream_format": "sse"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InnerServer]:
    folder = tmp_path_factory.mktemp("server")
    with serving_here(folder, stall_timeout_s=STALL_S, fake={"step_ms": 0.5}) as live:
        yield live


@pytest.fixture(autouse=True)
def small_kernel_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's side keeps little, too, so that what is unsent stays in the process."""
    loops = asyncio.selector_events.BaseSelectorEventLoop
    accepted = loops._accept_connection2  # type: ignore[attr-defined]

    async def accept(self, protocol_factory, conn, *others):  # type: ignore[no-untyped-def]
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM_BYTES)
        await accepted(self, protocol_factory, conn, *others)

    monkeypatch.setattr(loops, "_accept_connection2", accept)


def request(fields: dict[str, object], *, keep: bool = True) -> bytes:
    body = json.dumps({"input": TEXT, "sample_rate": 48_000} | fields).encode()
    return post(SPEECH, body) if keep else post(SPEECH, body, b"Connection: close")


def is_dropped(server: InnerServer) -> bool:
    """Whether the server's one connection goes, and all that it held."""
    assert settled(lambda: len(server.connections), lambda count: count == 1) == 1
    admission = server.service.admission
    left = settled(lambda: len(server.connections) + admission.running, lambda count: count == 0)
    return left == 0


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "closing"])
@pytest.mark.parametrize("fields", BODIES.values(), ids=BODIES)
def test_speech_that_nobody_reads_is_dropped(
    server: InnerServer, fields: dict[str, object], keep: bool
) -> None:
    with dialled(server.port, receive_bytes=ROOM_BYTES) as raw:
        raw.sendall(request(fields, keep=keep))
        assert is_dropped(server)


# From less than a transport keeps before it says that it is full, to more than that.
@pytest.mark.parametrize("words", [4, 40])
@pytest.mark.parametrize("fields", BODIES.values(), ids=BODIES)
def test_the_end_of_speech_that_nobody_reads_is_dropped(
    server: InnerServer, fields: dict[str, object], words: int
) -> None:
    body = json.dumps({"input": "word " * words, "sample_rate": 8_000} | fields).encode()
    with dialled(server.port, receive_bytes=ROOM_BYTES) as raw:
        raw.sendall(post(SPEECH, body))
        assert is_dropped(server)


def test_a_clone_that_nobody_reads_is_dropped(server: InnerServer) -> None:
    with dialled(server.port, receive_bytes=ROOM_BYTES) as raw:
        raw.sendall(form_request("/v1/audio/speech/clone", {"input": TEXT}, "file"))
        assert is_dropped(server)


def test_a_socket_that_reads_no_end_is_dropped(server: InnerServer) -> None:
    body = json.dumps({"input": "Hello there.", "sample_rate": 8_000}).encode()
    with dialled(server.port, receive_bytes=ROOM_BYTES) as raw:
        raw.sendall(upgrade_request(SOCKET))
        read_head(raw)
        raw.sendall(text_frame(body))
        assert is_dropped(server)


def test_another_answer_that_nobody_reads_is_dropped(server: InnerServer) -> None:
    with dialled(server.port, receive_bytes=ROOM_BYTES) as raw:
        raw.sendall(head("/openapi.json").replace(b"close", b"keep-alive"))
        assert is_dropped(server)


@pytest.mark.parametrize("fields", BODIES.values(), ids=BODIES)
def test_who_pauses_for_less_than_the_limit_hears_all_of_it(
    server: InnerServer, fields: dict[str, object]
) -> None:
    def heard(pause_s: float) -> int:
        with dialled(server.port, receive_bytes=ROOM_BYTES) as raw:
            raw.sendall(request(fields, keep=False))
            read_head(raw)
            time.sleep(pause_s)
            answer = read_all(raw)
        assert not answer.reset
        return len(answer.raw)

    assert heard(STALL_S / 2) == heard(0)


def test_whole_files_that_wait_to_be_read_hold_no_slot(tmp_path: Path) -> None:
    with (
        serving_here(tmp_path, capacity=1, fake={"step_ms": 0.5}) as server,
        dialled(server.port, receive_bytes=ROOM_BYTES) as raw,
    ):
        raw.sendall(request(BODIES["whole"]))
        assert read_head(raw).startswith(b"HTTP/1.1 200 ")
        assert settled(lambda: server.service.admission.running, lambda count: count == 0) == 0
        with dialled(server.port) as other:
            other.sendall(request({"input": "Hello."}, keep=False))
            assert read_all(other).status == 200
