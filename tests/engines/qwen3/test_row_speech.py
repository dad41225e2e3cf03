"""What the host knows of a row: how long its text may take, loops, guards that are off."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.engines.qwen3.options import RequestOptions
from vivavoce.engines.qwen3.row_speech import FRAME_S, RowSpeech, frame_budget, loop_guard
from vivavoce.engines.utterance import LoopGuard, SilenceGuard
from vivavoce.types import Span, Utterance, Voice


def speech(*, guarded: bool, max_frames: int | None = 1_000) -> RowSpeech:
    voice = Voice("v", "qwen3", "v", ("en",))
    return RowSpeech(
        Utterance((Span("text"),), voice),
        RequestOptions(max_frames=max_frames),
        guarded=guarded,
        silence=SilenceGuard(24_000),
    )


def looping(made: RowSpeech, frames: int) -> RowSpeech:
    for _ in range(frames):
        made.push_frame(np.full(16, 9))
    return made


def test_a_loop_ends_a_guarded_row_and_no_other() -> None:
    assert looping(speech(guarded=True), 74).ended is None
    assert looping(speech(guarded=True), 75).ended == "length"
    assert looping(speech(guarded=False), 200).ended is None


def test_guards_that_are_off_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> NoReturn:
        raise AssertionError("a guard was asked")

    monkeypatch.setattr(LoopGuard, "push", asked)
    monkeypatch.setattr(SilenceGuard, "push", asked)
    unguarded = looping(speech(guarded=False), 100)
    unguarded.push_audio(np.zeros(1920, np.float32))
    assert unguarded.frames == 100 and unguarded.ended is None
    with pytest.raises(AssertionError, match="was asked"):
        speech(guarded=True).push_audio(np.zeros(1920, np.float32))


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
    guard, codes = loop_guard(), list(range(100, 100 + period)) * (200 // period)
    assert any(guard.push([code]) for code in codes)


def test_speech_is_no_loop() -> None:
    guard, rng = loop_guard(), np.random.default_rng(0)
    assert not any(guard.push([int(code)]) for code in rng.integers(0, 60, 400))


def test_a_slow_style_has_room_to_be_slow() -> None:
    text = "A sentence of some length, to be read."
    usual = frame_budget(text, 9)
    assert frame_budget(text, 9, None, "Speak very slowly.") >= 2.9 * usual
    assert usual < frame_budget(text, 9, None, "Whisper.") < 2 * usual
    assert frame_budget(text, 9, 0.5, "Speak very slowly.") == 6
