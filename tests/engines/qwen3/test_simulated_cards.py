"""Rows on simulated cards: by how fast they are, by what memory they have, and what others take."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.qwen3.simulated_card import OutOfMemoryError, SimulatedCard
from engines.qwen3.test_scheduler_time import Call, Simulation
from vivavoce.engines.qwen3.memory import (
    LIBRARIES_BYTES,
    MIB,
    SMALL_CARD_ROWS,
    WORK_BYTES,
    WORK_ROW_BYTES,
    Footprint,
    MemoryPlan,
    Room,
    rows_that_fit,
)
from vivavoce.engines.qwen3.pace import FRAME_MS, RAMP, Costs, capacity_for, pace_for, ramp_for
from vivavoce.errors import SetupError
from vivavoce.runtime.graphs.api import BATCH_BUCKETS

GB = 1_000_000_000
MOST = st.sampled_from((4, 16, 64))


def speed(step_ms: float, piece_ms: float, chunk_ms: float, sound: float) -> Costs:
    """``step_ms``: a frame of one row; each further row makes it 1.5 % longer.

    ``sound``: a frame of a chunk beside the chunk itself.
    """
    frames = {rows: step_ms * (1 + 0.015 * (rows - 1)) for rows in BATCH_BUCKETS}
    return Costs(piece_ms, frames, chunk_ms, chunk_ms * sound)


def slower(costs: Costs, factor: float) -> Costs:
    frames = {rows: took_ms * factor for rows, took_ms in costs.frame_ms.items()}
    others = (costs.prefill_ms, costs.chunk_ms, costs.sound_ms)
    piece_ms, chunk_ms, sound_ms = (each * factor for each in others)
    return Costs(piece_ms, frames, chunk_ms, sound_ms)


speeds = st.builds(
    speed, st.floats(4, 80), st.floats(2, 60), st.floats(1, 20), st.floats(0.02, 0.1)
)


@settings(deadline=None)
@given(speeds, st.floats(1.0, 20.0), MOST)
def test_a_slower_card_has_no_more_rows(costs: Costs, factor: float, most: int) -> None:
    assert capacity_for(slower(costs, factor), most) <= capacity_for(costs, most)


@settings(deadline=None)
@given(
    speeds,
    st.floats(1.0, 20.0),
    st.sampled_from(["prefill_ms", "frame_ms", "chunk_ms", "sound_ms"]),
    MOST,
)
def test_nor_has_one_that_is_slower_in_one_thing(
    costs: Costs, factor: float, part: str, most: int
) -> None:
    one = replace(costs, **{part: getattr(slower(costs, factor), part)})
    assert capacity_for(one, most) <= capacity_for(costs, most)


@settings(deadline=None)
@given(speeds, MOST)
def test_a_little_slower_is_a_little_less(costs: Costs, most: int) -> None:
    rows = pace_for(costs, most, fixed=False).rows
    less = pace_for(slower(costs, 1.02), most, fixed=False).rows
    assert 1 <= less <= rows <= most
    assert rows - less <= max(2, rows // 3)


@settings(deadline=None)
@given(speeds, MOST)
def test_a_size_repeats_as_long_as_the_next_needs_and_no_longer(costs: Costs, most: int) -> None:
    rows = max(1, capacity_for(costs, most))
    ramp = ramp_for(costs, rows)
    if ramp is None:
        assert rows == 1 and costs.longest_ms(1, 1) > 0.9 * FRAME_MS
        return
    assert set(ramp) == {*RAMP} and list(ramp) == sorted(ramp)
    for size, group in groupby(ramp):
        count = len(list(group))
        following = RAMP[min(RAMP.index(size) + 1, len(RAMP) - 1)]
        needed_ms = costs.longest_ms(rows, following) - 1e-6
        reserve_ms = size * FRAME_MS
        gained_ms = size * FRAME_MS - costs.longest_ms(rows, size)
        assert reserve_ms + (count - 1) * gained_ms >= needed_ms
        assert count == 1 or reserve_ms + (count - 2) * gained_ms < needed_ms + 1e-3


@settings(max_examples=40, deadline=None)
@given(speeds, MOST, st.lists(st.integers(1, 14), min_size=1, max_size=24))
def test_nobody_starves(costs: Costs, most: int, prompts: list[int]) -> None:
    """A crowd that comes at once, whatever its prompts are: everybody is heard, none breaks off."""
    pace = pace_for(costs, most, fixed=False)
    crowd = [Call(float(at), 30, pieces=pieces) for at, pieces in enumerate(prompts)]
    simulation = Simulation(costs, crowd, pace.rows, pace.ramp).run()
    assert sorted(simulation.done) == list(range(len(crowd)))
    waited = max(simulation.waits_steps)
    assert waited <= sum(prompts) and waited <= (pace.rows - 1) * max(prompts)
    if ramp_for(costs, pace.rows) is not None:
        assert simulation.underruns == 0


sizes = st.integers(1, 4000).map(lambda mb: mb * MIB)
needs_of_models = st.builds(Footprint, sizes, st.integers(20, 400).map(lambda mb: mb * MIB))
totals = st.floats(6, 141).map(lambda gb: round(gb * GB))
shares = st.floats(0.0, 1.0)


def rows_or_none(needs: Footprint, room: Room, most: int) -> int:
    try:
        return rows_that_fit(needs, room, most, fixed=False)
    except SetupError:
        return 0


@settings(deadline=None)
@given(needs_of_models, totals, shares, shares, st.booleans(), MOST)
def test_rows_never_fall_with_memory(
    needs: Footprint, total: int, free: float, more: float, budget: bool, most: int
) -> None:
    """As others take less, or the budget grows."""
    low, high = sorted((round(total * free), round(total * more)))
    if budget and low:
        small, large = (Room(total, total, each) for each in (low, high))
    else:
        small, large = (Room(total, each) for each in (low, high))
    assert rows_or_none(needs, small, most) <= rows_or_none(needs, large, most)


@settings(deadline=None)
@given(needs_of_models, totals, shares, st.integers(0, 20_000), MOST)
def test_the_sum_holds(
    needs: Footprint, total: int, free: float, budget_mb: int, most: int
) -> None:
    room = Room(total, round(total * free), budget_mb * MIB)
    rows = rows_or_none(needs, room, most)
    if not rows:
        assert needs.total(1) > room.most
        return
    assert needs.total(rows) <= room.most
    assert rows <= (SMALL_CARD_ROWS if room.small else most)
    tenth = 0 if budget_mb else round(total * 0.1)
    assert rows == 1 or needs.total(rows) <= room.most - tenth
    fuller = needs.total(rows + 1) > room.most - tenth
    assert fuller or rows in (most, SMALL_CARD_ROWS)


@settings(deadline=None)
@given(
    needs_of_models,
    totals,
    st.tuples(*[st.floats(0.0, 0.9)] * 4),
    st.integers(0, 20_000),
    MOST,
)
def test_others_who_take_memory_cost_no_call_its_own(
    needs: Footprint,
    total: int,
    others: tuple[float, ...],
    budget_mb: int,
    most: int,
) -> None:
    """Before the plan, between plan and load, after the load, while it speaks.

    Either the load is refused with the sum, or all that was planned is there whenever it is used,
    but for what is assumed of libraries, if others have taken that.
    """
    card = SimulatedCard(total)
    before, between, after, meanwhile = others
    card.others_take(before)
    try:
        plan = MemoryPlan.make(card, budget_mb * MIB, needs, most, fixed=False)
    except SetupError as refused:
        assert " = " in refused.message
        return
    card.others_take(between)
    try:
        card.take(needs.weights + plan.rows * needs.row)
    except OutOfMemoryError:
        assert " = " in plan.refusal().message
        return
    try:
        plan.hold()
    except SetupError as refused:
        assert " = " in refused.message
        return
    held = card.reserved
    assert held in (plan.planned_bytes, max(plan.planned_bytes - LIBRARIES_BYTES, card.used))
    assert held == plan.planned_bytes or between
    card.others_take(after)
    card.take(held - card.used)
    card.others_take(meanwhile)
    assert card.reserved <= plan.planned_bytes
    card.free_all()
    plan.give_back()
    assert card.reserved == 0 and card.limit_bytes is None


@pytest.mark.parametrize("budget_mb", [0, 3072])
def test_nothing_is_taken_off_a_budget_and_a_tenth_is_left_without_one(budget_mb: int) -> None:
    needs = Footprint(1000 * MIB, 100 * MIB)
    total = 20 * GB if budget_mb else 13 * GB
    room = Room(total, total, budget_mb * MIB)
    rows = rows_that_fit(needs, room, 64, fixed=False)
    if budget_mb:
        assert rows == SMALL_CARD_ROWS and needs.total(rows) <= 3072 * MIB
        exact = Room(total, total, needs.total(2))
        assert rows_that_fit(needs, exact, 64, fixed=False) == 2
    else:
        assert needs.total(rows) <= 0.9 * total < needs.total(rows + 1)
        asked = rows + 1
        assert rows_that_fit(needs, room, asked, fixed=True) == asked, (
            "what is asked for and fits, is had"
        )


def test_a_load_that_took_more_than_planned_is_told(caplog: pytest.LogCaptureFixture) -> None:
    needs = Footprint(1000 * MIB, 100 * MIB)
    card = SimulatedCard(24 * GB)
    plan = MemoryPlan.make(card, 0, needs, 2, fixed=True)
    card.take(plan.planned_bytes + 300 * MIB)
    plan.hold()
    assert "300 MB more of the GPU's memory than was planned" in caplog.text


def test_what_libraries_and_the_warm_up_took_is_told_beside_the_plan(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A load measures what is assumed; more than that beside PyTorch is a warning."""
    needs = Footprint(1000 * MIB, 100 * MIB)
    card = SimulatedCard(24 * GB)
    with caplog.at_level(logging.INFO):
        plan = MemoryPlan.make(card, 0, needs, 2, fixed=True)
        card.take(needs.loaded(2) + 70 * MIB)
        card.others += 30 * MIB
        plan.hold()
        planned = (WORK_BYTES - LIBRARIES_BYTES + 2 * WORK_ROW_BYTES) // MIB
        beside = LIBRARIES_BYTES // MIB
        told = f"70 of {planned} MB for graphs and work, 30 of {beside} MB beside PyTorch"
        assert told in caplog.text
        assert not [each for each in caplog.records if each.levelno == logging.WARNING]
        card.free_all()
        plan = MemoryPlan.make(card, 0, needs, 2, fixed=True)
        card.take(needs.loaded(2))
        card.others += LIBRARIES_BYTES + 8 * MIB
        plan.hold()
    assert f"{beside + 8} MB of the GPU's memory were taken beside PyTorch" in caplog.text


def test_a_card_that_others_fill_later_fails_no_call(caplog: pytest.LogCaptureFixture) -> None:
    """What was planned within a budget was taken at the load; more is refused to others."""
    needs = Footprint(1000 * MIB, 100 * MIB)
    card = SimulatedCard(8 * GB)
    plan = MemoryPlan.make(card, 3072 * MIB, needs, 4, fixed=False)
    card.take(needs.loaded(plan.rows))
    plan.hold()
    card.others_take(1.0)
    assert card.free == 0
    card.take(plan.planned_bytes - card.used)
    with pytest.raises(OutOfMemoryError):
        card.take(1)
    assert "may fail" not in caplog.text
