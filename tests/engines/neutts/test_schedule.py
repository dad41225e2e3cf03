"""Which piece goes next, and a playback that never starves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vivavoce.engines.neutts.schedule import (
    Pace,
    Piece,
    RowState,
    WindowCosts,
    due_chunk,
    next_piece,
    next_prefill,
)

COSTS = WindowCosts(around=30, largest=50)
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


@pytest.mark.parametrize(
    ("token_s", "window_s"),
    [(0.005, lambda n: 0.012 * n**0.5 + 0.0008 * n), (0.010, lambda n: 0.0012 * n)],
    ids=["nano", "air"],
)
def test_playback_never_starves(token_s: float, window_s: object) -> None:
    """A clock of its own: tokens on one core, windows on the other."""
    stall_s = simulate(token_s, window_s, codes=250)  # type: ignore[arg-type]
    assert stall_s <= 0.001


def simulate(token_s: float, window_s: object, codes: int) -> float:
    """Seconds in which nothing plays between the first sound and the last."""
    pace, chunks = Pace(token_s, 0.001), [8, 15, 25, 50]
    now, given, pieces, stall, dry, heard = 0.0, 0, 0, 0.0, 0.0, False
    while given < codes:
        made = min(codes, int(now / token_s))
        ended = made == codes
        state = RowState(
            0, dry, made - given - (0 if ended else 5), chunks[min(pieces, 3)], heard, ended
        )
        size = due_chunk(state, pace, COSTS, now)
        if not size:
            now += token_s
            continue
        spent = window_s(COSTS.around + size)  # type: ignore[operator]
        now += spent
        pace.decoded(COSTS.around + size, spent)
        stall += max(0.0, now - dry) if heard else 0.0
        dry = max(dry, now) + size * CODE_S
        given, pieces, heard = given + size, pieces + 1, True
    return stall
