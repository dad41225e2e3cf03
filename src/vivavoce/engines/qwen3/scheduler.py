"""Which utterance sits in which row, and who is prefilled next.

A slot of the engine is a row of the batch. The lowest free row is given out, so that the batch
stays narrow; at most one piece of one row's prompt is read a step: of the row whose playback would
run dry first.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from vivavoce.errors import EngineError


class Phase(enum.Enum):
    """Where a row stands: without a first word, ready to be prefilled, speaking, out of text."""

    NO_TEXT = enum.auto()
    READY = enum.auto()
    SPEAKING = enum.auto()
    STALLED = enum.auto()


@dataclass(slots=True)
class _Seat:
    deadline_s: float
    order: int
    phase: Phase


class Scheduler:
    """The rows of one batch."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._seats: dict[int, _Seat] = {}
        self._order = 0

    @property
    def taken(self) -> list[int]:
        """Rows in use, ascending."""
        return sorted(self._seats)

    def take(self, deadline_s: float, *, has_text: bool) -> int:
        """The lowest free row. Raises EngineError where there is none."""
        free = next((row for row in range(self.rows) if row not in self._seats), None)
        if free is None:
            raise EngineError(f"All {self.rows} rows are taken.")
        self._order += 1
        phase = Phase.READY if has_text else Phase.NO_TEXT
        self._seats[free] = _Seat(deadline_s, self._order, phase)
        return free

    def free(self, row: int) -> bool:
        """Give a row back; False where it was free."""
        return self._seats.pop(row, None) is not None

    def phase(self, row: int) -> Phase | None:
        """Where a row stands; None when it is free."""
        seat = self._seats.get(row)
        return None if seat is None else seat.phase

    def next_prefill(self) -> int | None:
        """The most urgent row that has text and has not begun."""
        ready = [(s.deadline_s, s.order, row) for row, s in self._seats.items() if _ready(s)]
        return min(ready)[2] if ready else None

    def last_come(self, rows: Iterable[int]) -> int:
        """Which of some rows was taken last."""
        return max(rows, key=lambda row: self._seats[row].order)

    def began(self, row: int) -> None:
        """A row's prompt was read to its end."""
        self._seats[row].phase = Phase.SPEAKING

    def stalled(self, row: int) -> None:
        """A speaking row needs text."""
        self._seats[row].phase = Phase.STALLED

    def got_text(self, row: int) -> None:
        """Text came, or will not come any more: whoever waited for it goes on."""
        seat = self._seats[row]
        if seat.phase is Phase.NO_TEXT:
            seat.phase = Phase.READY
        elif seat.phase is Phase.STALLED:
            seat.phase = Phase.SPEAKING

    def speaking(self) -> list[int]:
        """Rows that the next frame advances, ascending."""
        return [row for row in self.taken if self._seats[row].phase is Phase.SPEAKING]

    def width(self) -> int:
        """How many rows from 0 on a batch needs that holds all speaking ones."""
        return max(self.speaking(), default=-1) + 1


def _ready(seat: _Seat) -> bool:
    return seat.phase is Phase.READY
