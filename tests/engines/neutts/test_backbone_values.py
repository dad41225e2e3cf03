"""The values that travel to and from a backbone."""

from __future__ import annotations

from typing import Any

import pytest

from vivavoce.engines.neutts.backbone import TokenSampling
from vivavoce.errors import ContextOverflow, InputError


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"min_tokens": -1}, "min_tokens"),
    ],
)
def test_sampling_out_of_range_is_refused(wrong: dict[str, Any], param: str) -> None:
    with pytest.raises(InputError) as caught:
        TokenSampling(**wrong)
    assert caught.value.param == param


def test_defaults_are_those_of_the_published_runtime() -> None:
    sampling = TokenSampling()
    assert (sampling.temperature, sampling.top_k) == (1.0, 50)
    assert (sampling.top_p, sampling.min_p) == (0.95, 0.05)


def test_greedy_needs_no_temperature() -> None:
    assert TokenSampling(temperature=0.0, greedy=True).greedy


def test_an_overflow_says_how_much_there_is() -> None:
    error = ContextOverflow(2050, 2048)
    assert isinstance(error, InputError)
    assert "2050" in error.message
    assert "2048" in error.message
    assert error.code == "context_overflow"
