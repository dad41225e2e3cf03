"""When playback runs dry, and what counts as heard."""

from __future__ import annotations

import numpy as np
import pytest

from vivavoce.engines.clock import PlaybackClock

RATE_HZ = 22_050
SILENCE, SOUND = np.zeros(2_205, np.float32), np.full(2_205, 0.2, np.float32)


def test_silence_before_the_first_word_is_not_counted_as_heard() -> None:
    clock = PlaybackClock(100.0)
    clock.push_speech(SILENCE, RATE_HZ, 0.0)
    assert not clock.has_audio and clock.underrun_at_s == 100.0
    clock.push_speech(np.concatenate([SILENCE, SOUND]), RATE_HZ, 0.0)
    assert clock.has_audio and clock.underrun_at_s == pytest.approx(100.1)
    clock.push_speech(SILENCE, RATE_HZ, 0.0)
    assert clock.underrun_at_s == pytest.approx(100.2), "pauses inside speech are heard"


def test_sound_that_comes_late_is_played_from_then_on() -> None:
    clock = PlaybackClock(1.0)
    assert clock.push_speech(SOUND, RATE_HZ, 5.0) == 0.0, "nobody waits before the first sound"
    assert clock.underrun_at_s == pytest.approx(5.1)
    assert clock.push(0.5, 6.0) == pytest.approx(0.9)
    assert clock.underrun_at_s == pytest.approx(6.5)


def test_sound_that_is_early_waits_for_its_turn() -> None:
    clock = PlaybackClock(1.0)
    assert [clock.push(1.0, 0.0), clock.push(1.0, 0.5)] == [0.0, 0.0]
    assert clock.underrun_at_s == 3.0


def test_a_clock_that_cannot_wait_goes_on_however_late_the_sound_is() -> None:
    clock = PlaybackClock(1.0, can_wait=False)
    assert [clock.push(0.5, 9.0), clock.push(0.5, 9.0)] == [0.0, 7.5]
    assert clock.underrun_at_s == 2.0


def test_nothing_changes_nothing() -> None:
    clock = PlaybackClock(1.0)
    assert clock.push(0.0, 9.0) == 0.0
    assert (clock.underrun_at_s, clock.has_audio) == (1.0, False)
