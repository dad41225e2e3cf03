"""Budgets, loops, seeds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.engines.neutts.utterance import (
    code_budget,
    expected_codes,
    loop_guard,
    next_seed,
)


def test_the_budget_grows_with_the_text_and_obeys_the_caller() -> None:
    assert code_budget("Hello there.") < code_budget("Hello there, and hello to you as well.")
    assert code_budget("Hello there.", 0.5) == 25
    assert code_budget("", 0.0) == 1


def test_a_slow_reading_fits_what_is_kept_free() -> None:
    text = "This is a sentence of nine words, or so."
    assert 3 * 50 < expected_codes(text) < code_budget(text)


@pytest.mark.parametrize("period", [1, 7, 50])
def test_a_loop_is_noticed_soon(period: int) -> None:
    guard = loop_guard()
    heard = 0
    while not guard.push([heard % period]):
        heard += 1
        assert heard < 260
    assert heard >= 150


def test_speech_is_no_loop() -> None:
    codes = np.random.default_rng(0).integers(0, 65_536, 3_000).astype(np.int32)
    guard = loop_guard()
    assert not any(guard.push(codes[i : i + 3].tolist()) for i in range(0, 3_000, 3))


@given(st.integers(0, 2**63 - 1), st.integers(1, 8))
def test_another_seed_is_another_one_and_stays_in_range(seed: int, attempt: int) -> None:
    other = next_seed(seed, attempt)
    assert other != seed and 0 <= other < 2**63
    assert other == next_seed(seed, attempt)
