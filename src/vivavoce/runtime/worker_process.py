"""How the process of a worker is begun, and what ended it."""

from __future__ import annotations

import logging
import os
import signal
import sys

from vivavoce.errors import Unavailable
from vivavoce.runtime.worker_child import HEADER_BYTES, OUT_OF_MEMORY, Bounds

log = logging.getLogger(__name__)

END_LIMIT_S = 2.0
"""How long a process that was told to end may take."""

# What an interpreter needs to find itself and its libraries. A server's keys are in its environment
# too, and no business of a process that reads strangers' files.
_INHERITED = (
    "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME",
    "SYSTEMROOT", "TEMP", "TMP", "TMPDIR",
)  # fmt: skip


def no_room(error: OSError) -> Unavailable:
    """What is said where a process cannot be started for now."""
    log.warning("a worker process cannot be started", extra={"why": error.strerror})
    return Unavailable("A process that is needed for this cannot start now.")


def cause_of_death(status: int, *, hung: bool) -> str:
    """Why a process with this exit status (negative: the signal's number) is no more."""
    timers = [getattr(signal, name, None) for name in ("SIGALRM", "SIGXCPU")]
    if hung or -status in timers:
        return "it took too long"
    if status == OUT_OF_MEMORY:
        return "it needed too much memory"
    return "the process that did it crashed"


def header(message: bytes) -> bytes:
    """What stands before a message: its length."""
    return len(message).to_bytes(HEADER_BYTES, "big")


def command(module: str, bounds: Bounds) -> list[str]:
    """The command line of a process that runs ``module`` within bounds."""
    # -P: modules are not looked for in the folder in which the server happens to run.
    return [sys.executable, "-P", "-m", module, *bounds.as_arguments()]


def environment() -> dict[str, str]:
    """The same packages, one thread, one heap, and no secrets."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
    }
