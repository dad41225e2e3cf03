"""The last resort: a thread that ends the process when nothing else can any more.

It ends a process that is still there some seconds after it should have gone (a thread of a
library that hangs keeps Python from ending), and one whose event loop has stood still for too
long. It looks ten times a second and takes no lock, so that a signal handler may set it.

Under a supervisor (``serving/supervisor.py``) it also sends the signs of life.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from vivavoce.serving.logs import flush_logs

log = logging.getLogger(__name__)

TICK_S = 0.1
GIVEN_UP = 2.0
"""Of its limit, how long the event loop may stand still before the process is ended."""

WELL, SOFTWARE_FAILURE = 0, 70
"""Exit statuses; 70 is EX_SOFTWARE of sysexits.h."""

LAST_WORDS_S = 0.4
"""How long the log may take before the process is ended."""

INNERMOST = 4


class LifeSigns(Protocol):
    """Whoever wants to know that this process is alive."""

    def alive(self) -> bool:
        """Tell it so; False where nobody is there to be told."""


class Watchdog:
    """Ends this process; make one per process.

    ``loop_limit_s`` is how long the event loop may stand still; None: for ever.
    """

    def __init__(
        self,
        loop_limit_s: float | None = None,
        life_signs: LifeSigns | None = None,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._loop_limit_s = loop_limit_s
        self._life_signs = life_signs
        self._end = end
        self._deadline_s: float | None = None
        self._status = SOFTWARE_FAILURE
        self._beat_s: float | None = None
        self._late = False
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="vivavoce-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped = True

    def beat(self) -> None:
        """The event loop moves; call it from there, ten times a second."""
        self._beat_s = time.monotonic()

    def rest(self) -> None:
        """The event loop ends: it is not expected to move any more."""
        self._beat_s = None

    def end_within(self, seconds: float, status: int) -> None:
        """End the process with ``status`` if it is still there then; the earliest time counts."""
        deadline_s = time.monotonic() + seconds
        self._status = status
        if self._deadline_s is None or deadline_s < self._deadline_s:
            self._deadline_s = deadline_s

    def _run(self) -> None:
        while not self._stopped:
            self._look()
            time.sleep(TICK_S)

    def _look(self) -> None:
        now_s = time.monotonic()
        standstill = self._standstill(now_s)
        if self._deadline_s is not None and now_s >= self._deadline_s:
            self._leave("the process did not end by itself; it is ended", self._status)
        elif standstill >= GIVEN_UP:
            self._leave("the event loop does not move; the process is ended", SOFTWARE_FAILURE)
        elif standstill < 1 and self._life_signs is not None and not self._life_signs.alive():
            self._life_signs = None
            log.warning("the supervisor is gone")
            os.kill(os.getpid(), signal.SIGTERM)

    def _standstill(self, now_s: float) -> float:
        """For how much of its limit the event loop has not moved."""
        if self._beat_s is None or self._loop_limit_s is None:
            return 0.0
        share = (now_s - self._beat_s) / self._loop_limit_s
        if share >= 1 and not self._late:
            log.error("the event loop has not moved for %.1f s: %s", now_s - self._beat_s, _where())
        self._late = share >= 1
        return share

    def _leave(self, why: str, status: int) -> None:
        """End the process; a log that blocks does not keep it."""
        names = ", ".join(sorted(thread.name for thread in threading.enumerate()))
        last_words = threading.Thread(target=_tell, args=(why, status, names), daemon=True)
        last_words.start()
        last_words.join(LAST_WORDS_S)
        self._stopped = True
        self._end(status)


def _tell(why: str, status: int, threads: str) -> None:
    log.critical(why, extra={"status": status, "threads": threads})
    flush_logs()


def _where() -> str:
    """What the main thread is at: file and line of its innermost calls, the last one first."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    calls = reversed(traceback.extract_stack(frame, limit=None)[-INNERMOST:])
    return " in ".join(f"{Path(call.filename).name}:{call.lineno}" for call in calls)
