"""Rows given out and taken back, and who is prefilled first."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vivavoce.engines.qwen3.scheduler import Phase, Scheduler
from vivavoce.errors import EngineError


def test_the_earliest_deadline_is_prefilled_first() -> None:
    scheduler = Scheduler(3)
    late, soon, also_soon = (scheduler.take(each, has_text=True) for each in (9.0, 1.0, 1.0))
    order = []
    while (row := scheduler.next_prefill()) is not None:
        scheduler.began(row)
        order.append(row)
    assert order == [soon, also_soon, late]


def test_a_row_without_text_is_not_prefilled_until_it_comes() -> None:
    scheduler = Scheduler(1)
    row = scheduler.take(0.0, has_text=False)
    assert scheduler.next_prefill() is None
    scheduler.got_text(row)
    assert scheduler.next_prefill() == row


def test_a_stalled_row_is_not_advanced_until_text_comes() -> None:
    scheduler = Scheduler(2)
    row = scheduler.take(0.0, has_text=True)
    scheduler.began(row)
    scheduler.stalled(row)
    assert scheduler.speaking() == []
    scheduler.got_text(row)
    assert scheduler.speaking() == [row]


def test_more_utterances_than_rows_are_refused() -> None:
    scheduler = Scheduler(1)
    scheduler.take(0.0, has_text=True)
    with pytest.raises(EngineError):
        scheduler.take(0.0, has_text=True)


class Comings(RuleBasedStateMachine):
    """Utterances come, speak, stall and go in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(4)
        self.taken: set[int] = set()

    @precondition(lambda self: len(self.taken) < 4)
    @rule(deadline_s=st.floats(0, 10), has_text=st.booleans())
    def take(self, deadline_s: float, has_text: bool) -> None:
        row = self.scheduler.take(deadline_s, has_text=has_text)
        assert row == min(set(range(4)) - self.taken)
        self.taken.add(row)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(sorted(self.taken)))
        assert self.scheduler.free(row)
        self.taken.remove(row)

    @rule(row=st.integers(-1, 5))
    def free_a_free_one(self, row: int) -> None:
        if row not in self.taken:
            assert not self.scheduler.free(row)

    @rule()
    def prefill(self) -> None:
        row = self.scheduler.next_prefill()
        if row is not None:
            self.scheduler.began(row)
            assert self.scheduler.phase(row) is Phase.SPEAKING

    @precondition(lambda self: self.scheduler.speaking())
    @rule()
    def stall(self) -> None:
        self.scheduler.stalled(self.scheduler.speaking()[0])

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def text(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(sorted(self.taken)))
        self.scheduler.got_text(row)
        assert self.scheduler.phase(row) in (Phase.READY, Phase.SPEAKING)

    @invariant()
    def no_row_is_lost(self) -> None:
        assert self.scheduler.taken == sorted(self.taken)
        assert set(self.scheduler.speaking()) <= self.taken
        assert self.scheduler.width() <= 4


Comings.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestComings = Comings.TestCase
