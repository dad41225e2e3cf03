"""A log that nobody reads holds up nobody, and says afterwards what is missing."""

from __future__ import annotations

import io
import logging
import os
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest

from vivavoce.serving import logs as log_queue
from vivavoce.serving.logs import BackgroundHandler, JsonFormatter


class Sink(io.StringIO):
    """Blocks, or fails, when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.open_gate = threading.Event()
        self.open_gate.set()
        self.broken = False

    def write(self, text: str) -> int:
        self.open_gate.wait()
        if self.broken:
            raise BrokenPipeError
        return super().write(text)


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.open_gate.set()


def logger_to(sink: TextIO) -> tuple[logging.Logger, BackgroundHandler]:
    handler = BackgroundHandler(sink)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger, handler


def test_lines_come_in_order_and_flush_waits_for_them(sink: Sink) -> None:
    logger, handler = logger_to(sink)
    for number in range(500):
        logger.info("line %d", number)
    handler.flush()
    assert sink.getvalue().splitlines() == [f"line {number}" for number in range(500)]


def test_a_sink_that_blocks_does_not_block_who_logs_and_the_gap_is_told(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_queue, "MAX_WAITING_LINES", 10)
    monkeypatch.setattr(log_queue, "FLUSH_S", 0.05)
    logger, handler = logger_to(sink)
    sink.open_gate.clear()
    for number in range(100):
        logger.info("line %d", number)
    handler.flush()
    assert sink.getvalue() == ""
    monkeypatch.setattr(log_queue, "FLUSH_S", 10.0)
    sink.open_gate.set()
    handler.flush()
    logger.info("at last")
    handler.flush()
    lines = sink.getvalue().splitlines()
    written = [line for line in lines if line.startswith("line")]
    (note,) = [line for line in lines if "lines dropped" in line]
    assert int(note.split()[-1]) == 100 - len(written)
    assert lines[-1] == "at last"
    assert written == [f"line {number}" for number in range(len(written))]


def test_a_sink_that_is_gone_loses_lines_and_nothing_else(sink: Sink) -> None:
    logger, handler = logger_to(sink)
    sink.broken = True
    logger.info("lost")
    handler.flush()
    sink.broken = False
    logger.info("heard")
    handler.flush()
    assert sink.getvalue() == "the log was not read in time; lines dropped: 1\nheard\n"


def test_a_line_without_end_is_cut_and_says_so(sink: Sink) -> None:
    logger, handler = logger_to(sink)
    logger.info("x" * (log_queue.MAX_LINE_CHARS + 5))
    handler.flush()
    assert sink.getvalue().endswith("x … 5 characters more\n")


def test_a_line_that_cannot_be_formatted_is_one_line(sink: Sink) -> None:
    logger, handler = logger_to(sink)
    logger.info("%d", "no number")
    handler.flush()
    assert sink.getvalue() == "a line of the log could not be formatted: TypeError\n"


def test_who_holds_a_lock_of_the_log_in_a_signal_can_log_again(sink: Sink) -> None:
    logger, handler = logger_to(sink)

    class Nested(JsonFormatter):
        def format(self, record: logging.LogRecord) -> str:
            if record.getMessage() == "outer":
                logger.info("inner")
            return record.getMessage()

    handler.setFormatter(Nested())
    logger.info("outer")
    handler.flush()
    assert sink.getvalue() == "inner\nouter\n"


def test_a_full_pipe_does_not_hold_up_a_log_call() -> None:
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "w") as stream:
            logger, handler = logger_to(stream)
            for _ in range(300):
                logger.warning("x" * 999)
            received = 0
            while received < 300 * 1000:
                received += len(os.read(reading, 65536))
            handler.flush()
    finally:
        os.close(reading)
