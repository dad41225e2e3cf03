"""What goes over a bare socket, both ways: requests that no HTTP client would send, and answers."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

PATIENCE_S = 60.0
RST_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything a server sent until it closed. ``reset`` is whether it closed with a RST."""

    raw: bytes
    reset: bool = False

    @property
    def status(self) -> int:
        """The status of the first answer; 0 where there was none."""
        return int(self.raw.split(b" ", 2)[1]) if self.raw else 0

    @property
    def headers(self) -> dict[str, str]:
        """The fields of the first answer, names in lower case."""
        lines = self.raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        pairs = [line.partition(":") for line in lines]
        return {name.lower(): value.strip() for name, _, value in pairs}

    @property
    def body(self) -> bytes:
        """What follows the head of the first answer."""
        return self.raw.partition(b"\r\n\r\n")[2]


def head(
    target: str = "/livez", *fields: bytes, method: str = "GET", version: str = "1.1"
) -> bytes:
    """The head of a request after which the server is to close."""
    lines = [f"{method} {target} HTTP/{version}".encode(), b"Host: localhost", b"Connection: close"]
    return b"\r\n".join([*lines, *fields, b"", b""])


def post(path: str, body: bytes, *fields: bytes, version: str = "1.1") -> bytes:
    """A JSON request whose connection may be kept."""
    lines = [f"POST {path} HTTP/{version}".encode(), b"Host: localhost"]
    lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*lines, *fields, b"", b""]) + body


def chunked(path: str, framed: bytes) -> bytes:
    """A JSON request with a body in chunks that are framed already."""
    lines = [f"POST {path} HTTP/1.1".encode(), b"Host: localhost", b"Connection: close"]
    lines += [b"Content-Type: application/json", b"Transfer-Encoding: chunked"]
    return b"\r\n".join([*lines, b"", b""]) + framed


def chunks(body: bytes, size: int) -> bytes:
    """A body in chunks of one size, without the last one."""
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


@contextmanager
def dialled(port: int, *, receive_bytes: int = 0) -> Iterator[socket.socket]:
    """A connection; ``receive_bytes`` makes the room small in which the kernel keeps answers."""
    with socket.socket() as raw:
        if receive_bytes:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        raw.settimeout(PATIENCE_S)
        raw.connect(("127.0.0.1", port))
        yield raw


def read_all(raw: socket.socket) -> Answer:
    """Everything until the server closes. Raises TimeoutError where it does not."""
    received = bytearray()
    try:
        while data := raw.recv(65_536):
            received += data
    except (ConnectionResetError, BrokenPipeError):
        return Answer(bytes(received), reset=True)
    return Answer(bytes(received))


def read_head(raw: socket.socket) -> bytes:
    """The head of an answer, and no byte of its body."""
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        byte = raw.recv(1)
        if not byte:
            raise ConnectionError(f"the server closed after {received!r}")
        received += byte
    return received


def ask(port: int, *pieces: bytes) -> Answer:
    """Send pieces one after the other, and read until the server closes."""
    with dialled(port) as raw:
        reset = False
        try:
            for piece in pieces:
                raw.sendall(piece)
        except BrokenPipeError:  # refused while it was sent
            pass
        except ConnectionResetError:  # told once: what is read behind it looks like an end
            reset = True
        answer = read_all(raw)
        return replace(answer, reset=answer.reset or reset)


def heard_from(raw: socket.socket) -> bool:
    """Whether an answer or the end has come, looked at without waiting."""
    raw.setblocking(False)
    try:
        raw.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        raw.settimeout(PATIENCE_S)
    return True


def hang_up(raw: socket.socket) -> None:
    """Close with a RST."""
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
    raw.close()


def resident_bytes(pid: int | str = "self") -> int:
    """The memory of a process that is in RAM, from /proc."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4_096
