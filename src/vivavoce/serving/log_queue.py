"""A log handler that never holds up whoever logs: a thread of its own writes.

A pipe that nobody reads any more fills up, and then a write to it waits for ever; with it would
wait the event loop and the engine's thread. Here only the writing thread does. Lines that find no
room are dropped and counted, and the count is logged once lines can be written again.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import TextIO

MAX_WAITING_LINES = 10_000
MAX_LINE_CHARS = 16 * 1024
"""Longer ones, tracebacks above all, are cut, with a note: what waits is bounded."""

FLUSH_S = 1.0


class BackgroundHandler(logging.Handler):
    """Formats where the log call is made, writes to ``stream`` from a thread of its own."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._dropped = 0
        # Its put never waits, and may be interrupted by a signal handler that logs, too.
        self._waiting: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        threading.Thread(target=self._write, name="vivavoce-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or count it as dropped."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a log call never raises
            line = f"a line of the log could not be formatted: {type(error).__name__}"
        if len(line) > MAX_LINE_CHARS:
            line = f"{line[:MAX_LINE_CHARS]} … {len(line) - MAX_LINE_CHARS} characters more"
        if self._waiting.qsize() < MAX_WAITING_LINES:
            self._waiting.put(line)
        else:
            self._drop(1)

    def flush(self) -> None:
        """Wait until all that was logged is written, but for a second at most."""
        written = threading.Event()
        self._waiting.put(written)
        written.wait(FLUSH_S)

    def _write(self) -> None:
        while True:
            item = self._waiting.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            dropped = self._drop(0)
            lines = [self._note(dropped), item] if dropped else [item]
            try:
                self._stream.write("".join(f"{line}\n" for line in lines))
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more, or the stream is closed
                self._drop(dropped + 1)

    def _drop(self, count: int) -> int:
        """Count lines as dropped; with 0, return how many were and start anew."""
        self.acquire()
        try:
            dropped = self._dropped
            self._dropped = dropped + count if count else 0
            return dropped
        finally:
            self.release()

    def _note(self, dropped: int) -> str:
        text = f"the log was not read in time; lines dropped: {dropped}"
        return self.format(
            logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
        )
