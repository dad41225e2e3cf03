"""The scheduler in simulated time: nobody starves, no row is lost, playback never runs dry.

Times of stages are given; what is checked is what follows from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.engines.qwen3.pace import (
    FRAME_MS,
    RAMP,
    ChunkRamp,
    Costs,
    Pace,
    by_size,
    capacity_for,
    pace_for,
    ramp_for,
)
from vivavoce.engines.qwen3.scheduler import Phase, Scheduler

# An H100 with 1.7B weights as published by others; an 8 GB card by the floor of its memory.
LARGE = Costs(0.8, {1: 6.0, 16: 8.0, 64: 12.0}, 1.8, 0.05)
SMALL = Costs(8.0, {1: 18.0, 4: 20.0, 16: 26.0}, 6.0, 0.5)
SLOW = Costs(60.0, {1: 110.0, 4: 180.0}, 20.0, 8.0)


def took_by_sound_ms(costs: Costs, due: dict[int, int]) -> float:
    """What the chunks of a step take: each call of ``by_size``, in the captured size it runs in."""
    calls = by_size(due, max(costs.frame_ms))
    return sum(costs.of_chunk(len(rows), max(due[row] for row in rows)) for rows in calls)


@dataclass(frozen=True)
class Call:
    """``frames`` long; its text comes ``text_ms`` after it; hangs up after ``patience`` frames.

    Its prompt is read in ``pieces``.
    """

    at_ms: float
    frames: int
    text_ms: float = 0.0
    patience: int | None = None
    pieces: int = 1


@dataclass
class Row:
    call: Call
    number: int
    ramp: ChunkRamp
    ready_step: int | None = None
    read: int = 0
    made: int = 0
    waiting: int = 0
    first_ms: float | None = None
    played_out_ms: float = 0.0


@dataclass
class Simulation:
    """Steps of an engine whose stages take what ``costs`` say, under one clock."""

    costs: Costs
    calls: Sequence[Call]
    rows: int
    ramp: tuple[int, ...] = RAMP
    now_ms: float = 0.0
    steps: int = 0
    live: dict[int, Row] = field(default_factory=dict)
    underruns: int = 0
    most_ahead: int = 0
    done: list[int] = field(default_factory=list)
    waits_steps: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.rows)
        self.coming = sorted(enumerate(self.calls), key=lambda pair: pair[1].at_ms)

    def run(self) -> Simulation:
        while self.coming or self.live:
            self.join()
            self.texts()
            self.step()
            assert self.scheduler.taken == sorted(self.live)
            assert self.steps < 200_000, "it never ends"
        return self

    def join(self) -> None:
        while self.coming and self.coming[0][1].at_ms <= self.now_ms:
            if len(self.live) == self.rows:
                return  # admission keeps them waiting
            number, call = self.coming.pop(0)
            row = self.scheduler.take(call.at_ms, has_text=call.text_ms == 0)
            assert row not in self.live
            self.live[row] = Row(call, number, ChunkRamp(self.ramp))
        if not self.live and self.coming:
            self.now_ms = max(self.now_ms, self.coming[0][1].at_ms)

    def texts(self) -> None:
        for number, row in self.live.items():
            if self.now_ms >= row.call.at_ms + row.call.text_ms:
                self.scheduler.got_text(number)
            if row.ready_step is None and self.scheduler.phase(number) is Phase.READY:
                row.ready_step = self.steps

    def step(self) -> None:
        self.steps += 1
        took_ms = self.prefill()
        speaking = [
            n for n in self.scheduler.speaking() if self.live[n].made < self.live[n].call.frames
        ]
        if speaking:
            took_ms += self.costs.of_frame(self.scheduler.width())
        for number in speaking:
            self.live[number].made += 1
            self.live[number].waiting += 1
        sounding, codec_ms = self.sound()
        self.now_ms += (took_ms + codec_ms) or 2.0
        for number, frames in sounding.items():
            self.heard(self.live[number], frames)
        for number in [*self.live]:
            self.leave(number, self.live[number])

    def prefill(self) -> float:
        number = self.scheduler.next_prefill()
        if number is None:
            return 0.0
        row = self.live[number]
        assert row.ready_step is not None
        row.read += 1
        if row.read == row.call.pieces:
            self.waits_steps.append(self.steps - row.ready_step - row.read)
            self.scheduler.began(number)
        return self.costs.prefill_ms

    def sound(self) -> tuple[dict[int, int], float]:
        due = {}
        for number, row in self.live.items():
            last = row.made >= row.call.frames
            if frames := row.ramp.take(row.waiting, last=last):
                due[number] = frames
                row.waiting -= frames
        return due, took_by_sound_ms(self.costs, due)

    def heard(self, row: Row, frames: int) -> None:
        if row.first_ms is None:
            row.first_ms = row.played_out_ms = self.now_ms
        elif self.now_ms > row.played_out_ms + 1e-6:
            self.underruns += 1
            row.played_out_ms = self.now_ms
        row.played_out_ms += frames * FRAME_MS

    def leave(self, number: int, row: Row) -> None:
        over = row.made >= row.call.frames and row.waiting == 0
        gone = row.call.patience is not None and row.made >= row.call.patience
        if over or gone:
            assert self.scheduler.free(number)
            del self.live[number]
            self.done.append(row.number)


def calls(most_gap_ms: float = 300.0, texts: bool = False) -> st.SearchStrategy[list[Call]]:
    gap = st.floats(0.0, most_gap_ms)
    late = st.floats(0.0, 500.0) if texts else st.just(0.0)
    patience = st.none() | st.integers(0, 40)
    one = st.tuples(gap, st.integers(1, 120), late, patience, st.integers(1, 14))
    return st.lists(one, min_size=1, max_size=40).map(_one_after_the_other)


def _one_after_the_other(drawn: list[tuple[float, int, float, int | None, int]]) -> list[Call]:
    made, now_ms = [], 0.0
    for gap_ms, frames, text_ms, patience, pieces in drawn:
        now_ms += gap_ms
        made.append(Call(now_ms, frames, text_ms, patience, pieces))
    return made


costs = st.builds(
    Costs,
    st.floats(0.2, 20.0),
    st.tuples(st.floats(1.0, 20.0), st.floats(0.0, 15.0), st.floats(0.0, 15.0)).map(
        lambda ms: {1: ms[0], 8: ms[0] + ms[1], 64: sum(ms)}
    ),
    st.floats(0.2, 8.0),
    st.floats(0.01, 1.0),
)


@settings(max_examples=60, deadline=None)
@given(costs, calls(), st.integers(1, 64))
def test_playback_never_runs_dry_within_the_capacity(
    costs: Costs, calls: list[Call], most: int
) -> None:
    """However calls arrive, last and hang up, and whatever the stages cost."""
    rows = capacity_for(costs, most)
    ramp = ramp_for(costs, rows) if rows else None
    if ramp is None:
        return
    simulation = Simulation(costs, calls, rows, ramp).run()
    assert simulation.underruns == 0
    assert sorted(simulation.done) == list(range(len(calls)))


@settings(max_examples=40, deadline=None)
@given(calls(texts=True), st.integers(1, 8), st.sampled_from((LARGE, SMALL, SLOW)))
def test_nobody_starves_and_no_row_is_lost(calls: list[Call], rows: int, costs: Costs) -> None:
    """Calls that came earlier are first, so a ready row waits at most for the prompts of the others
    that were there.
    """
    simulation = Simulation(costs, calls, rows).run()
    assert sorted(simulation.done) == list(range(len(calls)))
    assert simulation.scheduler.taken == []
    most = max(call.pieces for call in calls)
    assert max(simulation.waits_steps, default=0) <= (rows - 1) * most


def test_a_burst_is_heard_in_its_order_one_prompt_a_step() -> None:
    burst = [Call(0.1 * number, 50) for number in range(16)]
    simulation = Simulation(LARGE, burst, 16)
    for _ in range(25):
        simulation.join()
        simulation.texts()
        simulation.step()
    firsts = [row.first_ms for _, row in sorted(simulation.live.items())]
    assert len(firsts) == 16 and None not in firsts
    gaps = [after - before for before, after in pairwise(firsts)]  # type: ignore[operator]
    longest = LARGE.longest_ms(16, 1)
    assert all(0 < gap <= longest for gap in gaps)


def test_a_call_that_hangs_up_frees_its_row_in_the_same_step() -> None:
    leaving = [Call(0.0, 100), Call(0.0, 100, patience=5), Call(0.0, 100)]
    simulation = Simulation(SMALL, leaving, 3)
    while 1 not in simulation.done:
        simulation.join()
        simulation.texts()
        simulation.step()
    assert simulation.steps <= 5 + len(leaving)
    assert simulation.scheduler.taken == [0, 2]
    assert simulation.scheduler.take(0.0, has_text=True) == 1


def test_three_thousand_calls_leave_nothing_behind() -> None:
    many = [
        Call(7.0 * number, 1 + number % 23, patience=number % 5 or None) for number in range(3_000)
    ]
    simulation = Simulation(LARGE, many, 32).run()
    assert len(simulation.done) == 3_000 and simulation.scheduler.taken == []


@pytest.mark.parametrize(
    ("costs", "least"), [(LARGE, 48), (SMALL, 2), (Costs(1.0, {64: 3.0}, 1.0, 0.01), 64)]
)
def test_capacity_of_known_devices(costs: Costs, least: int) -> None:
    rows = capacity_for(costs, 64)
    assert rows >= least
    ramp = ramp_for(costs, rows)
    assert ramp is not None and ramp[0] == 1 and list(ramp) == sorted(ramp)


def test_a_fast_device_takes_the_whole_ramp_a_slow_one_none() -> None:
    assert ramp_for(LARGE, 1) == RAMP
    assert ramp_for(SLOW, 1) is None
    assert capacity_for(SLOW, 4) == 0


def test_the_pace_is_that_of_the_device_unless_rows_are_fixed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert pace_for(None, 16, fixed=False) == Pace(16, RAMP)
    rows = capacity_for(SMALL, 16)
    assert pace_for(SMALL, 16, fixed=False) == Pace(rows, ramp_for(SMALL, rows) or ())
    assert not caplog.records
    assert pace_for(SMALL, 16, fixed=True) == Pace(16, RAMP)
    assert "does not keep 16 calls fed" in caplog.text


def test_a_device_too_slow_for_one_row_gets_one_and_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert pace_for(SLOW, 16, fixed=False) == Pace(1, RAMP)
    (warning,) = caplog.records
    assert warning.levelname == "WARNING" and "does not keep 1 calls fed" in warning.getMessage()


def test_the_only_row_reads_no_prompt_while_it_speaks() -> None:
    slow_to_read = Costs(500.0, {1: 9.0, 64: 12.0}, 4.0, 0.1)
    assert ramp_for(slow_to_read, 1) == RAMP
    assert capacity_for(slow_to_read, 64) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 16),
    st.integers(0, 16),
    st.integers(1, 12),
    st.floats(0.0, 8.0),
    st.floats(0.0, 1.0),
    st.data(),
)
def test_sound_never_takes_more_than_is_counted(
    rows: int, more: int, steps: int, chunk_ms: float, sound_ms: float, data: st.DataObject
) -> None:
    """Whatever each row decodes in each step, within what it has made, in captured sizes."""
    costs = Costs(0.0, {rows + more: 0.0}, chunk_ms, sound_ms)
    had = [max(RAMP) - 1] * rows
    took_ms = 0.0
    for _ in range(steps):
        due = {}
        usual = data.draw(st.integers(0, max(RAMP)))  # many of one length are what is padded
        for row in range(rows):
            had[row] += 1
            wanted = data.draw(st.just(usual) | st.integers(0, max(RAMP)))
            due[row] = min(had[row], wanted)
            had[row] -= due[row]
        took_ms += took_by_sound_ms(costs, due)
    assert took_ms <= costs.longest_ms(rows, steps) + 1e-6


def test_what_is_padded_is_charged() -> None:
    """Five rows run as four and one, a frame in the bucket of eight, a last chunk as a longer."""
    costs = Costs(0.0, {1: 2.0, 4: 3.0, 8: 5.0, 16: 9.0}, 1.0, 0.5)
    assert costs.of_frame(5) == costs.of_frame(8) == 5.0
    assert costs.of_chunk(5, 2) == 2.0 + 0.5 * (4 + 1) * 2
    assert costs.of_chunk(8, 2) == 1.0 + 0.5 * 16 * 2
    assert costs.of_chunk(5, 12) == costs.of_chunk(8, 12) == 1.0 + 0.5 * 8 * 12
    assert costs.of_chunk(1, 5) == costs.of_chunk(1, 8) == 1.0 + 0.5 * 8
    assert costs.longest_ms(5, 1) >= 5.0 + costs.of_chunk(5, 8)
    assert replace(costs, frame_ms={3: 5.0}).longest_ms(3, 1) < costs.longest_ms(3, 1)


def test_too_many_rows_are_heard_to_break_off() -> None:
    """The simulation can fail: what capacity forbids does run dry."""
    crowd = [Call(0.0, 60) for _ in range(16)]
    assert capacity_for(SMALL, 16) < 16
    heavy = Costs(8.0, {16: 60.0}, 12.0, 1.0)
    assert Simulation(heavy, crowd, 16).run().underruns > 0
