"""Rows and their sequences: neighbors always, whoever comes and goes."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.engines.neutts.backbone import TokenSampling
from vivavoce.engines.neutts.gguf.llama_context import LlamaContext
from vivavoce.engines.neutts.gguf.rows import Row, Rows
from vivavoce.engines.neutts.gguf.sampler import RowSampler

CAPACITY = 5


class Cells:
    """What each sequence holds: the row that filled it."""

    def __init__(self) -> None:
        self.held: dict[int, int] = {}

    def clear(self, sequence: int) -> None:
        self.held.pop(sequence, None)

    def move(self, source: int, target: int) -> None:
        assert target not in self.held
        self.held[target] = self.held.pop(source)


def make(cells: Cells) -> Rows:
    return Rows(cast(LlamaContext, cells), CAPACITY)


def add(rows: Rows, number: int, prompt: int = 9, shared: int = 4) -> Row:
    sampler = RowSampler(TokenSampling())
    rows.add(number, np.arange(prompt, dtype=np.int32), shared, sampler, 10)
    return next(row for row in rows if row.number == number)


@given(st.data())
def test_sequences_have_no_gap_and_hold_what_their_row_read(data: Any) -> None:
    cells = Cells()
    rows = make(cells)
    for _ in range(data.draw(st.integers(1, 40))):
        free = rows.free()
        if free is not None and data.draw(st.booleans()):
            row = add(rows, free)
            if data.draw(st.booleans()):
                row.done = 1
                cells.held[row.sequence] = row.number
        else:
            rows.remove(data.draw(st.integers(0, CAPACITY)))
        assert sorted(row.sequence for row in rows) == list(range(len(rows)))
        assert cells.held == {row.sequence: row.number for row in rows if row.done}


def test_numbers_are_given_again_and_unknown_ones_ignored() -> None:
    rows = make(Cells())
    for number in range(CAPACITY):
        assert rows.free() == number
        add(rows, number)
    assert rows.free() is None
    rows.remove(3)
    rows.remove(3)
    rows.remove(99)
    assert (rows.free(), len(rows), 3 in rows, 4 in rows) == (3, CAPACITY - 1, False, True)


def test_prompts_are_read_in_the_order_of_arrival_and_tokens_made_in_that_of_sequences() -> None:
    rows = make(Cells())
    for number in range(4):
        add(rows, number)
    rows.remove(0)
    add(rows, 0)
    assert [row.number for row in rows.reading()] == [1, 2, 3, 0]
    for row in rows:
        row.last = np.zeros(1, np.int32)
    assert [row.sequence for row in rows.speaking()] == [0, 1, 2, 3]
    assert rows.reading() == []


def test_a_template_is_read_by_itself() -> None:
    row = add(make(Cells()), 0)
    stops = []
    for row.done in range(9):
        stops.append(row.next_stop)
    assert stops == [4] * 4 + [9] * 5
    assert add(make(Cells()), 1, shared=0).next_stop == 9
