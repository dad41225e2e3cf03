"""Frames of every wrong kind end their own socket, with one line in the log, and cost little."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from faults.rawcalls import text_frame, upgrade_request
from faults.wire import dialled, read_all, read_head, resident_bytes
from quality.live import LiveServer, serving, settled

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
FIN, RSV1 = 0x80, 0x40
SPEAK = text_frame(json.dumps({"input": "Hello there."}).encode())
MEGABYTE = 1_000_000


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    """One frame (RFC 6455, section 5.2), well made or not."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size)
    first = opcode | (FIN if fin else 0)
    if not masked:
        return bytes([first]) + length + payload
    mask = os.urandom(4)
    hidden = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([first, length[0] | 0x80]) + length[1:] + mask + hidden


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    settings = {"stall_timeout_s": 3.0, "log_format": "json", "max_body_bytes": 100_000}
    with serving("fake", settings | {"fake.step_ms": 2}) as live:
        yield live


@contextmanager
def opened(server: LiveServer, *, receive_bytes: int = 0) -> Iterator[socket.socket]:
    """A socket that was upgraded."""
    with dialled(server.port, receive_bytes=receive_bytes) as raw:
        raw.sendall(upgrade_request("/v1/audio/speech/ws"))
        assert read_head(raw).startswith(b"HTTP/1.1 101 ")
        yield raw


def exactly(raw: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        data = raw.recv(size - len(received))
        if not data:
            raise ConnectionError("closed")
        received += data
    return received


def next_frame(raw: socket.socket) -> tuple[int, bytes]:
    """The opcode and payload of a frame from the server."""
    first, size = exactly(raw, 2)
    if size == 126:
        (size,) = struct.unpack("!H", exactly(raw, 2))
    elif size == 127:
        (size,) = struct.unpack("!Q", exactly(raw, 8))
    return first & 0xF, exactly(raw, size)


def close_code(raw: socket.socket) -> int:
    """What the server closes with, other frames aside."""
    while (received := next_frame(raw))[0] != CLOSE:
        pass
    return int(struct.unpack("!H", received[1][:2])[0])


BROKEN = {
    "text that is not UTF-8": (frame(TEXT, b"\xff\xfe"), 1007),
    "half a character": (frame(TEXT, b"\xe2\x82"), 1007),
    "fragments that are not UTF-8": (frame(TEXT, b"a", fin=False) + frame(0, b"\xff"), 1007),
    "a reserved bit": (frame(TEXT | RSV1, b"{}"), 1002),
    "an unknown opcode": (frame(0x3, b"{}"), 1002),
    "no mask": (frame(TEXT, b"{}", masked=False), 1002),
    "a long ping": (frame(PING, b"x" * 126), 1002),
    "a ping in pieces": (frame(PING, b"x", fin=False), 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "text amid fragments": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    "a close code that is none": (frame(CLOSE, struct.pack("!H", 1005)), 1002),
    "a close reason that is not UTF-8": (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
    "a message over the limit": (bytes([0x81, 0xFF]) + struct.pack("!Q", 10**12) + b"mask", 1009),
}


@pytest.mark.parametrize(("sent", "code"), BROKEN.values(), ids=BROKEN)
def test_a_broken_frame_is_one_line_in_the_log(server: LiveServer, sent: bytes, code: int) -> None:
    before = len(server.logged("broken off"))
    with opened(server) as raw:
        raw.sendall(sent * 3)  # what follows the first one is not looked at
        assert close_code(raw) == code
        read_all(raw)

    def codes() -> list[int]:
        """Without those of floods, whose line may come after the test that sent one."""
        found = [line["close_code"] for line in server.logged("broken off")[before:]]
        return [each for each in found if each != 1008]

    assert settled(codes, bool) == [code]
    assert "Traceback" not in server.log.read_text()


def test_a_binary_message_is_refused(server: LiveServer) -> None:
    with opened(server) as raw:
        raw.sendall(frame(BINARY, b"x") * 50)
        assert json.loads(next_frame(raw)[1])["event"] == "error"
        assert close_code(raw) == 1003


def flood(raw: socket.socket, data: bytes, times: int) -> None:
    """Send without reading, for as long as the server takes it."""
    raw.settimeout(0.5)
    with suppress(OSError):
        for _ in range(times):
            raw.sendall(data)


@pytest.mark.parametrize("payload", [b"", b"x" * 125], ids=["empty", "long"])
def test_pings_that_nobody_reads_the_answers_of_fill_no_memory(
    server: LiveServer, payload: bytes
) -> None:
    pings = frame(PING, payload) * (MEGABYTE // (6 + len(payload)))
    before = resident_bytes(server.process.pid)
    with opened(server, receive_bytes=4_096) as raw:
        flood(raw, pings, 60)
        assert resident_bytes(server.process.pid) - before < 8 * MEGABYTE
    settled(lambda: server.metric("tts_requests_running"), lambda count: count == 0)


def test_a_flood_of_pings_is_broken_off(server: LiveServer) -> None:
    with opened(server) as raw:
        flood(raw, frame(PING) * 1_100, 1)
        assert close_code(raw) == 1008


def test_pings_at_an_honest_pace_are_answered_in_order(server: LiveServer) -> None:
    with opened(server) as raw:
        for at in range(200):
            raw.sendall(frame(PING, str(at).encode()))
            assert next_frame(raw) == (PONG, str(at).encode())
        raw.sendall(frame(PING, b"a") + frame(PING, b"b") + SPEAK)
        received = [next_frame(raw) for _ in range(3)]
    assert received[:2] == [(PONG, b"a"), (PONG, b"b")]
    assert json.loads(received[2][1])["event"] == "start"


@pytest.mark.parametrize(
    "fragment",
    [frame(CONTINUATION, fin=False), frame(CONTINUATION, b"x", fin=False)],
    ids=["empty", "of a byte"],
)
def test_a_message_in_endless_pieces_is_broken_off(server: LiveServer, fragment: bytes) -> None:
    before = resident_bytes(server.process.pid)
    with opened(server) as raw:
        flood(raw, frame(TEXT, b"{", fin=False) + fragment * 50_000, 1)
        assert close_code(raw) == 1008
    assert resident_bytes(server.process.pid) - before < 8 * MEGABYTE


def test_a_message_in_some_pieces_is_heard(server: LiveServer) -> None:
    message = json.dumps({"input": "Hello there."}).encode()
    pieces = [frame(CONTINUATION, bytes([byte]), fin=False) for byte in message]
    with opened(server) as raw:
        raw.sendall(frame(TEXT, fin=False) + b"".join(pieces) + frame(CONTINUATION))
        assert json.loads(next_frame(raw)[1])["event"] == "start"


def test_many_small_messages_leave_turns_to_others(server: LiveServer) -> None:
    """A megabyte of them in one go, answered one by one while another caller is served."""
    alone = 0
    done = threading.Event()

    def probe() -> None:
        nonlocal alone
        with httpx.Client(base_url=server.url, trust_env=False) as client:
            while not done.is_set():
                client.get("/livez").raise_for_status()
                alone += 1

    with opened(server) as raw:
        prober = threading.Thread(target=probe)
        prober.start()
        sender = threading.Thread(target=flood, args=(raw, frame(TEXT, b"x") * 2_000, 10))
        sender.start()
        for _ in range(20_000):
            next_frame(raw)
        done.set()
        prober.join()
        sender.join()
    assert alone > 100


def stands_still(server: LiveServer) -> None:
    """Wait until the engine takes no more steps."""
    seen = -1.0

    def steps_taken() -> float:
        nonlocal seen
        before, seen = seen, server.metric("tts_step_seconds_count")
        return seen - before

    assert settled(steps_taken, lambda steps: steps == 0) == 0


def test_a_cancel_is_heard_while_nothing_can_be_written(server: LiveServer) -> None:
    text = {"input": "A long story that is not read. " * 300, "sample_rate": 48_000}
    with opened(server, receive_bytes=4_096) as raw:
        raw.sendall(text_frame(json.dumps(text).encode()))
        settled(lambda: server.metric("tts_requests_running"), bool)
        stands_still(server)  # once every buffer between the two ends is full
        raw.sendall(text_frame(b'{"type": "cancel"}'))
        running = settled(lambda: server.metric("tts_requests_running"), lambda count: count == 0)
        assert running == 0
        while (received := next_frame(raw))[0] != TEXT or b"cancelled" not in received[1]:
            pass


def test_what_is_sent_along_with_the_close_is_no_fault(server: LiveServer) -> None:
    with opened(server) as raw:
        raw.sendall(frame(PING, b"x") + frame(CLOSE, struct.pack("!H", 1000)) + frame(TEXT, b"x"))
        assert next_frame(raw) == (PONG, b"x")
        assert close_code(raw) == 1000
