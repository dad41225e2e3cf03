"""Structured logs through the standard library: JSON lines or text, each with its request id.

What a caller's text says is never logged at INFO or above.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import re
import sys
import threading
import time
from contextvars import ContextVar
from typing import Any, TextIO
from unicodedata import category

from vivavoce.settings import Settings

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that runs in this context; empty outside of one."""

_UNSAFE = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
"""Unicode's categories of controls, format characters, separators of lines, surrogates."""

_QUOTED = re.compile(r'[\s"]')
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "request_id"}

MAX_WAITING_LINES = 10_000
MAX_LINE_CHARS = 16 * 1024
"""Longer ones, tracebacks above all, are cut, with a note: what waits is bounded."""

FLUSH_S = 1.0


class StreamBroken(Exception):
    """Ends a response that has begun and cannot be finished, so that the client sees a failure.

    Not a VivavoceError: it is for the ASGI server, which cuts the connection on any exception.
    """


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, request_id and the extras."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        entry: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if identity := getattr(record, "request_id", ""):
            entry["request_id"] = identity
        entry |= _extras(record)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class TextFormatter(logging.Formatter):
    """A line for people: the message, then ``key=value`` extras.

    What callers write (paths, names of fields) may be in it, so nothing that steers a terminal or
    begins a line gets out; a value with white space or quotes is quoted, so that it cannot pass for
    other fields. A traceback's lines are set in, so that none of them passes for a line of the log.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        extras = _extras(record)
        if identity := getattr(record, "request_id", ""):
            extras["request_id"] = identity
        parts = [_utc(record.created), f"{record.levelname:7}", _one_line(record.getMessage())]
        parts += [f"{_name(name)}={_value(str(value))}" for name, value in extras.items()]
        lines = [" ".join(parts)]
        if record.exc_info:
            traceback = self.formatException(record.exc_info).split("\n")
            lines += [f"    {_one_line(each)}" for each in traceback]
        return "\n".join(lines)


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Send all logs to ``stream`` (standard error) in the format the settings ask for.

    A thread writes them, so that a sink that blocks holds up nothing but the log.
    """
    target = stream or sys.stderr
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not target.isatty()
    )
    handler = BackgroundHandler(target)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    handler.addFilter(_with_request_id)
    handler.addFilter(_unexpected)
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    # uvicorn's INFO lines name whole URLs, and with them keys sent as ?api_key=.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def _with_request_id(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    return True


def _unexpected(record: logging.LogRecord) -> bool:
    """Drop the server's tracebacks of streams that were ended on purpose, and logged then."""
    if record.name != "uvicorn.error" or not record.exc_info:
        return True
    return not isinstance(record.exc_info[1], StreamBroken | asyncio.CancelledError)


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _utc(created_s: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created_s))
    return f"{whole}.{int(created_s % 1 * 1000):03d}Z"


def _one_line(text: str) -> str:
    """``text`` with escapes for what is no printing character: controls, bidirectional and other
    format characters, separators of lines, halves of pairs."""
    if text.isprintable():
        return text
    return "".join(_escape(each) if category(each) in _UNSAFE else each for each in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _name(text: str) -> str:
    return _QUOTED.sub("_", _one_line(text))


def _value(text: str) -> str:
    safe = _one_line(text)
    return json.dumps(safe, ensure_ascii=False) if not safe or _QUOTED.search(safe) else safe


def flush_logs() -> None:
    """Wait, for a second at most, until what was logged is written."""
    for handler in logging.getLogger().handlers:
        handler.flush()


class BackgroundHandler(logging.Handler):
    """Formats where the log call is made, writes to ``stream`` from a thread of its own.

    A pipe that nobody reads any more fills up, and then a write to it waits for ever; with it would
    wait the event loop and the engine's thread. Here only the writing thread does. Lines that find
    no room are dropped and counted, and the count is logged once lines can be written again.
    """

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
