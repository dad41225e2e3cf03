"""A model that says nothing any more is noticed, one that pauses is not."""

from __future__ import annotations

import numpy as np
import pytest

from vivavoce.engines.silence import SilenceGuard

RATE_HZ = 24_000
FRAME = 1920


def frames(count: int, peak: float) -> list[np.ndarray]:
    return [np.full(FRAME, peak, np.float32)] * count


@pytest.mark.parametrize(("silent", "ends"), [(25, False), (37, False), (38, True)])
def test_silence_ends_it_after_three_seconds(silent: int, ends: bool) -> None:
    guard = SilenceGuard(RATE_HZ)
    assert not any(guard.heard(each) for each in frames(3, 0.2))
    assert any(guard.heard(each) for each in frames(silent, 0.0001)) is ends


def test_speech_between_pauses_goes_on() -> None:
    guard = SilenceGuard(RATE_HZ)
    pattern = [*frames(30, 0.0), *frames(1, 0.1)] * 3
    assert not any(guard.heard(each) for each in pattern)
