"""The last resort ends a process that does not end by itself, and no other."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from tests.serving.conftest import settle

from vivavoce.serving import watchdog as watchdog_module
from vivavoce.serving.watchdog import Watchdog


class Ended:
    """Instead of the end of the process."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    def __call__(self, status: int) -> None:
        self.statuses.append(status)


class Signs:
    def __init__(self) -> None:
        self.count = 0
        self.heard = True

    def alive(self) -> bool:
        self.count += 1
        return self.heard


@pytest.fixture
def ended() -> Ended:
    return Ended()


@pytest.fixture
def started() -> Iterator[list[Watchdog]]:
    watchdogs: list[Watchdog] = []
    yield watchdogs
    for each in watchdogs:
        each.stop()


def test_it_ends_the_process_at_the_deadline_with_the_last_status(ended, started) -> None:
    dog = Watchdog(end=ended)
    started.append(dog)
    dog.end_within(0.2, 70)
    dog.end_within(600, 0)  # the earliest time counts, and what is known last
    dog.start()
    assert settle(lambda: bool(ended.statuses))
    assert ended.statuses == [0]


def test_without_a_deadline_it_leaves_the_process_alone(ended, started) -> None:
    signs = Signs()
    dog = Watchdog(0.05, signs, end=ended)
    started.append(dog)
    dog.start()
    assert settle(lambda: signs.count > 3)
    assert ended.statuses == []


def test_an_event_loop_that_stands_still_is_told_and_then_ended(ended, started, caplog) -> None:
    dog = Watchdog(0.2, end=ended)
    started.append(dog)
    dog.beat()
    dog.start()
    assert settle(lambda: bool(ended.statuses))
    assert ended.statuses == [70]
    told = [record for record in caplog.records if "has not moved" in record.getMessage()]
    assert len(told) == 1
    assert "conftest.py:" in told[0].getMessage() or "test_watchdog.py:" in told[0].getMessage()


def test_an_event_loop_that_has_ended_is_not_expected_to_move(ended, started) -> None:
    signs = Signs()
    dog = Watchdog(0.05, signs, end=ended)
    started.append(dog)
    dog.beat()
    dog.rest()
    dog.start()
    assert settle(lambda: signs.count > 5)
    assert ended.statuses == []


def test_no_sign_of_life_while_the_event_loop_stands_still(ended, started) -> None:
    signs = Signs()
    dog = Watchdog(0.3, signs, end=ended)
    started.append(dog)
    dog.beat()
    dog.start()
    assert settle(lambda: bool(ended.statuses))
    assert signs.count <= 4


def test_without_its_supervisor_the_process_is_told_to_end(
    ended, started, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(watchdog_module.os, "kill", lambda *what: sent.append(what))
    signs = Signs()
    signs.heard = False
    dog = Watchdog(life_signs=signs, end=ended)
    started.append(dog)
    dog.start()
    assert settle(lambda: bool(sent))
    time.sleep(3 * watchdog_module.TICK_S)
    assert sent == [(os.getpid(), signal.SIGTERM)]


def test_a_log_that_blocks_does_not_keep_it(ended, started) -> None:
    gate = threading.Event()

    class Blocking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            gate.wait(30)

    handler = Blocking()
    logging.getLogger("vivavoce.serving.watchdog").addHandler(handler)
    try:
        dog = Watchdog(end=ended)
        started.append(dog)
        dog.end_within(0, 0)
        dog.start()
        assert settle(lambda: bool(ended.statuses))
    finally:
        gate.set()
        logging.getLogger("vivavoce.serving.watchdog").removeHandler(handler)
