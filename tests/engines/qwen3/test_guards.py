"""How long a text may take, and what ends a model in a loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.engines.qwen3.guards import FRAME_S, LoopGuard, frame_budget

PHONE_NUMBER = "five five five, oh one two, four seven nine nine; "


def test_one_word_may_not_run_for_ten_seconds() -> None:
    assert frame_budget("Huh?", 2) * FRAME_S < 4


def test_forty_phone_numbers_are_not_cut() -> None:
    text = PHONE_NUMBER * 40
    spoken_s = 40 * 10 * 0.45  # ten digits each, said slowly
    assert frame_budget(text, len(text.split()) * 2) * FRAME_S > spoken_s


def test_the_callers_limit_counts() -> None:
    assert frame_budget("A sentence of some length.", 6, 0.5) == 6
    assert frame_budget("A sentence.", 3, 0.01) == 1


@given(st.text(max_size=40), st.integers(0, 40))
def test_more_text_never_gets_less_time(text: str, tokens: int) -> None:
    assert 1 <= frame_budget(text, tokens) <= frame_budget(text + " and more", tokens + 2)


@pytest.mark.parametrize("period", [1, 2, 7, 25])
def test_a_loop_is_found(period: int) -> None:
    guard, codes = LoopGuard(), list(range(100, 100 + period)) * (200 // period)
    assert any(guard.said(code) for code in codes)


def test_speech_is_no_loop() -> None:
    guard, rng = LoopGuard(), np.random.default_rng(0)
    assert not any(guard.said(int(code)) for code in rng.integers(0, 60, 400))


def test_a_slow_style_has_room_to_be_slow() -> None:
    text = "A sentence of some length, to be read."
    usual = frame_budget(text, 9)
    assert frame_budget(text, 9, None, "Speak very slowly.") >= 2.9 * usual
    assert usual < frame_budget(text, 9, None, "Whisper.") < 2 * usual
    assert frame_budget(text, 9, 0.5, "Speak very slowly.") == 6
