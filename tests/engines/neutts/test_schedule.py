"""Which piece goes next, and a playback that never starves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vivavoce.engines.neutts.ramp import RAMPS
from vivavoce.engines.neutts.schedule import (
    Pace,
    Piece,
    RowState,
    WindowCosts,
    due_chunk,
    next_piece,
    next_prefill,
)

CHUNKS = RAMPS[0]
COSTS = WindowCosts(around=30, largest=50, adaptive=True)
FIXED = WindowCosts(around=30, largest=50)
CODE_S = 0.02


def row(**changes: object) -> RowState:
    usual = RowState(0, dry_s=10.0, available=0, scheduled=15, heard=True, ended=False)
    return replace(usual, **changes)  # type: ignore[arg-type]


def chunk(now_s: float, **changes: object) -> int:
    return due_chunk(row(**changes), Pace(0.01, 0.001), COSTS, now_s)


def test_a_whole_piece_goes_and_a_part_of_it_waits() -> None:
    assert chunk(9.5, available=15) == 15
    assert chunk(9.5, available=14) == 0
    assert chunk(9.5, available=0) == 0


def test_before_playback_runs_dry_what_there_is_goes() -> None:
    assert chunk(9.9, available=10) == 10
    assert chunk(9.9, available=3) == 0


def test_the_first_piece_is_never_cut_short() -> None:
    assert chunk(20.0, available=7, scheduled=8, heard=False) == 0
    assert chunk(20.0, available=8, scheduled=8, heard=False) == 8


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
        return due_chunk(row(**changes), Pace(), FIXED, 10.0 - slack_s)

    assert size(available=14) == 0
    assert size(available=15) == size(available=100) == 15
    assert size(available=2, ended=True) == 15


def test_the_row_that_runs_dry_first_goes_first() -> None:
    rows = [row(key=1, dry_s=10.2, available=15), row(key=2, dry_s=10.0, available=15)]
    assert next_piece(rows, Pace(), COSTS, 9.8) == Piece(2, 15)
    assert next_piece([], Pace(), COSTS, 9.8) is None


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
    pace = Pace(token_s, code_s)
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
