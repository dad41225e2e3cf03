"""The fixed gain: exact below the knee, never over full scale, the same in chunks."""

from __future__ import annotations

import numpy as np
import pytest

from vivavoce.audio.level import KNEE, amplify

NOISE = np.random.default_rng(0).uniform(-1, 1, 5_000).astype(np.float32)


def test_no_gain_changes_nothing() -> None:
    assert amplify(NOISE, 0.0) is NOISE


def test_below_the_knee_it_is_a_plain_gain() -> None:
    quiet = NOISE * 0.3
    np.testing.assert_allclose(amplify(quiet, 6.0), quiet * 10 ** (6 / 20), rtol=1e-6)


@pytest.mark.parametrize("gain_db", [1.0, 6.0, 20.0])
def test_nothing_passes_full_scale_and_order_is_kept(gain_db: float) -> None:
    ramp = np.linspace(-1, 1, 2_001, dtype=np.float32)
    loud = amplify(ramp, gain_db)
    assert np.abs(loud).max() <= 1.0
    assert np.all(np.diff(loud) >= 0)
    assert np.abs(loud).max() > KNEE


def test_chunks_equal_the_whole() -> None:
    parts = [amplify(part, 6.0) for part in np.split(NOISE, [1, 700, 701, 4_000])]
    np.testing.assert_array_equal(np.concatenate(parts), amplify(NOISE, 6.0))


def test_the_callers_array_is_left_alone() -> None:
    before = NOISE.copy()
    amplify(NOISE, 12.0)
    np.testing.assert_array_equal(NOISE, before)
