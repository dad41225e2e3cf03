"""The inside of a worker process: one request after the other, each within bounds.

It imports little, so that a process starts quickly. A request and its answer are 8 bytes of length
(big endian) and as many bytes. The process says that it is there with an empty answer, ends at the
end of its standard input, and is ended by the kernel where a request takes too much time: so also a
process whose server was killed goes away. What its libraries print goes nowhere.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import BinaryIO

HEADER_BYTES = 8
OUT_OF_MEMORY = 75
"""Exit status of a process that was refused memory."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request may take: memory beyond what the process has after its start, processor
    time, time, and the sizes of both messages."""

    memory_bytes: int
    cpu_s: int
    wall_s: int
    request_bytes: int
    answer_bytes: int

    def as_arguments(self) -> list[str]:
        """For the command line of the process."""
        return [str(value) for value in asdict(self).values()]

    @classmethod
    def from_arguments(cls, arguments: list[str]) -> Bounds:
        """The inverse of ``as_arguments``."""
        return cls(*(int(value) for value in arguments))


def serve(answer: Callable[[bytes], bytes]) -> None:
    """Answer requests until there are no more; the command line holds the bounds."""
    bounds = Bounds.from_arguments(sys.argv[1:])
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    _refuse_signals()
    _bound_process(bounds)
    _write(answers, b"")
    _hush()
    try:
        while (request := _read(requests, bounds.request_bytes)) is not None:
            with _bounded(bounds):
                answered = answer(request)
            _write(answers, answered)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BrokenPipeError:
        os._exit(0)


def _refuse_signals() -> None:
    """Whoever ends a server with all that belongs to it leaves its workers to the server."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    for name in ("SIGALRM", "SIGXCPU"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def _hush() -> None:
    """Standard output and error lead nowhere from here on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _bound_process(bounds: Bounds) -> None:
    """No core dumps, no files, and an end to memory, where the system has such bounds."""
    try:
        import resource
    except ImportError:
        return
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_AS: _address_space_bytes() + bounds.memory_bytes,
    }
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (soft, soft))


def _address_space_bytes() -> int:
    """What the process has mapped now; a generous guess where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 2 * 1024**3


@contextlib.contextmanager
def _bounded(bounds: Bounds) -> Iterator[None]:
    """Within it the kernel ends the process after ``cpu_s`` or ``wall_s``, whatever it is doing.

    As far as the system can: where it cannot, the server ends a process that takes too long.
    """
    _bound_processor_time(bounds.cpu_s)
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, bounds.wall_s)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


def _bound_processor_time(cpu_s: int) -> None:
    """So much more than what was used already."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    until_s = int(used.ru_utime + used.ru_stime) + 1 + cpu_s
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (until_s, hard))


def _read(stream: BinaryIO, most_bytes: int) -> bytes | None:
    """The next message; None at the end, or where it cannot be one."""
    header = stream.read(HEADER_BYTES)
    size = int.from_bytes(header, "big")
    if len(header) < HEADER_BYTES or size > most_bytes:
        return None
    message = stream.read(size)
    return message if len(message) == size else None


def _write(stream: BinaryIO, message: bytes) -> None:
    stream.write(len(message).to_bytes(HEADER_BYTES, "big"))
    stream.write(message)
    stream.flush()
