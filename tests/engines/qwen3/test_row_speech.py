"""What the host knows of a row: guards that are off compute nothing."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import pytest

from vivavoce.engines.qwen3.guards import LoopGuard
from vivavoce.engines.qwen3.manner import RequestOptions
from vivavoce.engines.qwen3.row_speech import RowSpeech
from vivavoce.engines.silence import SilenceGuard
from vivavoce.types import Span, Utterance, Voice


def speech(*, guarded: bool, max_frames: int | None = 1_000) -> RowSpeech:
    voice = Voice("v", "qwen3", "v", ("en",))
    return RowSpeech(
        Utterance((Span("text"),), voice), RequestOptions(max_frames=max_frames), guarded=guarded
    )


def looping(made: RowSpeech, frames: int) -> RowSpeech:
    for _ in range(frames):
        made.take(np.full(16, 9))
    return made


def test_a_loop_ends_a_guarded_row_and_no_other() -> None:
    assert looping(speech(guarded=True), 74).ended is None
    assert looping(speech(guarded=True), 75).ended == "length"
    assert looping(speech(guarded=False), 200).ended is None


def test_guards_that_are_off_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> NoReturn:
        raise AssertionError("a guard was asked")

    monkeypatch.setattr(LoopGuard, "said", asked)
    monkeypatch.setattr(SilenceGuard, "heard", asked)
    unguarded = looping(speech(guarded=False), 100)
    unguarded.heard(np.zeros(1920, np.float32))
    assert unguarded.frames == 100 and unguarded.ended is None
    with pytest.raises(AssertionError, match="was asked"):
        speech(guarded=True).heard(np.zeros(1920, np.float32))
