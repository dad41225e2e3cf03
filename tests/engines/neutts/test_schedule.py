"""Which row is decoded next, and the ramp of the first pieces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engines.neutts.stubs import StubBackbone, StubCodec
from vivavoce.engines.neutts.loading import measured_speed
from vivavoce.engines.neutts.schedule import (
    RAMPS,
    SPEECH_CODES,
    DecodeJob,
    RowState,
    Speed,
    StepCosts,
    WindowCosts,
    due_chunk,
    next_job,
    next_prefill,
    ramp_for,
    starved_s,
)

CHUNKS = RAMPS[0]
COSTS = WindowCosts(around=30, largest=50, adaptive=True)
FIXED = WindowCosts(around=30, largest=50)
CODE_S = 0.02


def row(**changes: object) -> RowState:
    usual = RowState(0, underrun_at_s=10.0, available=0, scheduled=15, has_audio=True, ended=False)
    return replace(usual, **changes)  # type: ignore[arg-type]


def chunk(now_s: float, **changes: object) -> int:
    return due_chunk(row(**changes), StepCosts(0.01, 0.001), COSTS, now_s)


def test_a_whole_piece_goes_and_a_part_of_it_waits() -> None:
    assert chunk(9.5, available=15) == 15
    assert chunk(9.5, available=14) == 0
    assert chunk(9.5, available=0) == 0


def test_before_playback_runs_dry_what_there_is_goes() -> None:
    assert chunk(9.9, available=10) == 10
    assert chunk(9.9, available=3) == 0


def test_the_first_piece_is_never_cut_short() -> None:
    assert chunk(20.0, available=7, scheduled=8, has_audio=False) == 0
    assert chunk(20.0, available=8, scheduled=8, has_audio=False) == 8


def test_the_end_goes_whatever_its_size() -> None:
    assert chunk(9.5, available=2, ended=True) == 2
    assert chunk(9.5, available=40, ended=True) == 15


def test_with_time_in_hand_pieces_are_large() -> None:
    assert chunk(0.0, available=20) == 0
    assert chunk(0.0, available=30) == 30
    assert chunk(0.0, available=200) == 50


@pytest.mark.parametrize("slack_s", [-1.0, 0.05, 0.5, 10.0])
def test_fixed_pieces_do_not_depend_on_the_clock(slack_s: float) -> None:
    def size(**changes: object) -> int:
        return due_chunk(row(**changes), StepCosts(), FIXED, 10.0 - slack_s)

    assert size(available=14) == 0
    assert size(available=15) == size(available=100) == 15
    assert size(available=2, ended=True) == 15


def test_the_row_that_runs_dry_first_goes_first() -> None:
    rows = [
        row(key=1, underrun_at_s=10.2, available=15),
        row(key=2, underrun_at_s=10.0, available=15),
    ]
    assert next_job(rows, StepCosts(), COSTS, 9.8) == DecodeJob(2, 15)
    assert next_job([], StepCosts(), COSTS, 9.8) is None


def test_prompts_are_read_one_at_a_time_the_most_urgent_first() -> None:
    assert next_prefill([(3.0, 7), (2.0, 9)], False, 100.0, 1.5) == 9
    assert next_prefill([(3.0, 7)], True, 100.0, 1.5) is None
    assert next_prefill([], False, 100.0, 1.5) is None


def test_a_prompt_that_is_needed_later_lets_starving_playback_go_on() -> None:
    assert next_prefill([(5.0, 7)], False, 1.6, 1.5) is None
    assert next_prefill([(5.0, 7)], False, 3.0, 1.5) == 7
    assert next_prefill([(1.5, 7)], False, 1.6, 1.5) == 7


NANO = (0.0055, 0.0010)
AIR = (0.0110, 0.0012)
"""Seconds a token and a decoded code, each on one busy core."""


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize(("token_s", "code_s"), [NANO, AIR], ids=["nano", "air"])
def test_playback_never_starves(token_s: float, code_s: float, adaptive: bool) -> None:
    """A clock of its own: tokens on one core, windows on the other."""
    assert simulate(token_s, code_s, WindowCosts(30, 50, adaptive)) <= 0.001


def simulate(token_s: float, code_s: float, costs: WindowCosts, codes: int = 400) -> float:
    """Seconds in which nothing plays between the first sound and the last."""
    pace = StepCosts(token_s, code_s)
    now, given, pieces, stall, dry, heard = 0.0, 0, 0, 0.0, 0.0, False
    while given < codes:
        made = min(codes, int(now / token_s))
        ended = made == codes
        scheduled = CHUNKS[min(pieces, len(CHUNKS) - 1)]
        state = RowState(0, dry, made - given - (0 if ended else 5), scheduled, heard, ended)
        size = min(due_chunk(state, pace, costs, now), codes - given)
        if not size:
            now += token_s
            continue
        now += (costs.around + size) * code_s
        stall += max(0.0, now - dry) if heard else 0.0
        dry = max(dry, now) + size * CODE_S
        given, pieces, heard = given + size, pieces + 1, True
    return stall


AROUND, FORWARD = 30, 5
NANO = Speed(0.0055, 0.0055, 0.0010)
AIR = Speed(0.0110, 0.0110, 0.0012)
SLOW = Speed(0.0165, 0.021, 0.0014)


def ramp(speed: Speed) -> tuple[int, ...]:
    return ramp_for(speed, AROUND, FORWARD)


def test_a_machine_that_is_quick_enough_begins_with_the_smallest_pieces() -> None:
    assert ramp(NANO) == RAMPS[0]
    assert ramp(AIR) == RAMPS[0]


def test_a_slower_one_begins_larger_and_does_not_break_off() -> None:
    assert starved_s(RAMPS[0], SLOW, AROUND, FORWARD) > 0
    assert ramp(SLOW)[0] > RAMPS[0][0]
    assert starved_s(ramp(SLOW), SLOW, AROUND, FORWARD) == 0


def test_where_no_start_is_late_enough_it_begins_at_once() -> None:
    assert ramp(Speed(0.03, 0.04, 0.002)) == RAMPS[0]


@pytest.mark.parametrize("sizes", RAMPS)
def test_what_a_ramp_starves_by_grows_with_the_time_a_token_takes(sizes: tuple[int, ...]) -> None:
    starved = [
        starved_s(sizes, Speed(token_s, token_s, 0.001), AROUND, FORWARD)
        for token_s in np.linspace(0.002, 0.04, 12).tolist()
    ]
    assert starved == sorted(starved)
    assert starved[0] == 0 and starved[-1] > 0.5


def test_without_a_codec_the_time_of_tokens_is_all_there_is() -> None:
    behind_s = starved_s((25,), Speed(0.03, 0.03, 0.0), 0, 0)
    pieces = SPEECH_CODES // 25
    assert behind_s == pytest.approx((pieces - 1) * 25 * (0.03 - 0.02))


def test_the_warm_up_leaves_no_row_and_tells_times() -> None:
    backbone = StubBackbone(length=lambda *_: 200)
    backbone.load()
    speed = measured_speed(backbone, StubCodec())
    assert not backbone.rows
    assert min(speed.token_s, speed.token_beside_s, speed.decoded_code_s) > 0
