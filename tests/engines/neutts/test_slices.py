"""How much of a prompt is read at once while others speak: never at their cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.engines.neutts.backbone import PREFILL_SLICE
from vivavoce.engines.neutts.codec.stream import Schedule
from vivavoce.engines.neutts.schedule import (
    CODE_S,
    RAMPS,
    SLICES,
    SMALLEST_SLICE,
    UNHEARD_SLICE,
    Demand,
    ListenerState,
    PrefillWork,
    StepCosts,
    demands,
    prompt_slice,
    steps_left,
)

PACE = StepCosts(token_s=0.006, decoded_code_s=0.001, prompt_token_s=0.0015)
SCHEDULE = Schedule(RAMPS[0], lookback=25, lookforward=5)
AROUND, FORWARD = 30, 5


def chosen(slack_s: float, tokens: int = 5, left: int = 300, rows: int = 1) -> int:
    demand = Demand(tokens, 55, 10.0)
    return prompt_slice([demand], PrefillWork(left, rows), PACE, 10.0 - slack_s)


def test_with_sound_in_hand_slices_are_large_and_without_it_small() -> None:
    assert chosen(2.0) == PREFILL_SLICE
    assert chosen(0.05) == chosen(-1.0) == SMALLEST_SLICE
    sizes = [chosen(hundredth / 100) for hundredth in range(100)]
    assert sizes == sorted(sizes) and len(set(sizes)) > 3


def test_where_nobody_is_heard_yet_nothing_can_break_off() -> None:
    assert prompt_slice([], PrefillWork(300, 1), PACE, 0.0) == UNHEARD_SLICE
    assert SMALLEST_SLICE < UNHEARD_SLICE <= PREFILL_SLICE


def test_what_has_all_its_tokens_is_not_delayed() -> None:
    assert chosen(0.0, tokens=0) == PREFILL_SLICE


def test_whoever_is_late_anyway_is_not_made_later() -> None:
    late = Demand(5, 55, 0.0)
    assert (
        prompt_slice([late, Demand(5, 55, 100.0)], PrefillWork(300, 2), PACE, 1.0) == SMALLEST_SLICE
    )


@given(
    st.lists(
        st.builds(Demand, st.integers(0, 80), st.integers(33, 82), st.floats(0, 3)), max_size=9
    ),
    st.integers(0, 2000),
    st.integers(1, 8),
)
def test_it_is_one_of_the_sizes_and_more_time_never_makes_it_smaller(
    demands: list[Demand], left: int, rows: int
) -> None:
    now, later = (prompt_slice(demands, PrefillWork(left, rows), PACE, at_s) for at_s in (0.5, 0.0))
    assert {now, later} <= {SMALLEST_SLICE, UNHEARD_SLICE, *SLICES}
    assert now <= later


@dataclass
class Row:
    """A caller: tokens made, pieces decoded, until when it plays."""

    tokens: int
    given: int
    pieces: int
    underrun_at_s: float
    starved_s: float = 0.0

    @property
    def chunk(self) -> int:
        return SCHEDULE.chunk(self.pieces)

    def demands(self, left: int) -> list[Demand]:
        place = ListenerState(self.tokens - self.given, self.pieces, self.underrun_at_s)
        return demands(place, SCHEDULE, steps_left(left))


@dataclass
class Machine:
    """What a token of one row costs, what each further row adds (a share of it), a prompt's token,
    a decoded code; the codec works beside it, one window at a time."""

    token_s: float
    further: float
    prompt_token_s: float
    code_s: float
    rows: list[Row]
    left: int
    now_s: float = 0.0
    decoding: tuple[Row, float] | None = None
    began_s: float = field(default=0.0)

    def pace(self) -> StepCosts:
        token_s = self.token_s * (1 + self.further * (len(self.rows) - 1))
        return StepCosts(token_s, self.code_s, self.prompt_token_s)

    def step(self, size: int) -> None:
        read = min(size, self.left)
        self.now_s += self.pace().token_s + read * self.prompt_token_s
        for row in self.rows:
            row.tokens += 1
        self.left -= read
        if read and not self.left:
            self.began_s = self.now_s
            self.rows.append(Row(0, 0, 0, self.now_s + 0.12))
        self._decode()

    def _decode(self) -> None:
        """Windows that end, and those that begin right after them, until now."""
        while True:
            start_s = self.now_s
            if self.decoding is not None:
                row, done_s = self.decoding
                if done_s > self.now_s:
                    return
                size = row.chunk
                row.starved_s += max(0.0, done_s - row.underrun_at_s) if row.given else 0.0
                row.underrun_at_s = max(row.underrun_at_s, done_s) + size * CODE_S
                row.given, row.pieces = row.given + size, row.pieces + 1
                self.decoding, start_s = None, done_s
            due = [r for r in self.rows if r.tokens >= r.given + r.chunk + FORWARD]
            if not due:
                return
            first = min(due, key=lambda row: row.underrun_at_s)
            self.decoding = first, start_s + (first.chunk + AROUND) * self.code_s


Choice = Callable[[Machine, int], int]


def by_slack(machine: Machine, heard: int) -> int:
    asked = [demand for row in machine.rows[:heard] for demand in row.demands(machine.left)]
    return prompt_slice(asked, PrefillWork(machine.left, heard), machine.pace(), machine.now_s)


def smallest(_: Machine, __: int) -> int:
    return SMALLEST_SLICE


def spoken(machine: Machine, choose: Choice, steps: int = 250) -> tuple[list[float], float]:
    """Seconds that each starved who was heard at the start, and when the new row began."""
    heard = len(machine.rows)
    for _ in range(steps):
        machine.step(choose(machine, heard) if machine.left else SMALLEST_SLICE)
    return [row.starved_s for row in machine.rows[:heard]], machine.began_s


@st.composite
def machines(draw: st.DrawFn) -> Callable[[], Machine]:
    callers = draw(st.integers(1, 3))
    further = draw(st.floats(0.2, 0.9))
    token_s = draw(st.floats(0.003, 0.015 / (1 + further * callers)))
    prompt_token_s = token_s * draw(st.floats(0.1, 0.35))
    code_s = draw(st.floats(0.0002, 0.0012))
    left = draw(st.integers(20, 900))
    rows = []
    for _ in range(callers):
        pieces = draw(st.integers(1, 9))
        given = sum(map(SCHEDULE.chunk, range(pieces)))
        ready, hand_s = draw(st.integers(0, 20)), draw(st.floats(0.02, 2.0))
        rows.append((given + ready, given, pieces, hand_s))

    def make() -> Machine:
        return Machine(token_s, further, prompt_token_s, code_s, [Row(*row) for row in rows], left)

    return make


@settings(max_examples=300, deadline=None)
@given(machines())
def test_nobody_starves_where_nobody_would_with_the_smallest(make: Callable[[], Machine]) -> None:
    """On machines that carry one caller more; on others a new one is what makes others starve."""
    fixed, _ = spoken(make(), smallest)
    slack, _ = spoken(make(), by_slack)
    assert any(fixed) or max(slack) <= CODE_S


@pytest.mark.parametrize(("rows", "sooner"), [(1, 0.85), (2, 0.8)])
def test_a_new_row_begins_sooner_where_there_is_time(rows: int, sooner: float) -> None:
    def make() -> Machine:
        speaking = [Row(200, 180, 8, 1.0 + 0.2 * number) for number in range(rows)]
        return Machine(0.005, 0.5, 0.0012, 0.0005, speaking, 300)

    _, fixed_s = spoken(make(), smallest)
    starved, slack_s = spoken(make(), by_slack)
    assert not any(starved)
    assert slack_s < sooner * fixed_s
