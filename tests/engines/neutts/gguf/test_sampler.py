"""The sampler against a written-out one, and against llama.cpp's own chain."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.engines.neutts.backbone import TokenSampling
from vivavoce.engines.neutts.gguf.sampler import (
    CHOICES,
    END,
    RowSampler,
    Scores,
    candidates_of,
    largest,
)
from vivavoce.errors import EngineError


def written_out(scores: Scores, sampling: TokenSampling) -> list[int]:
    """Top-k, top-p, min-p, one after the other, as their papers say it."""
    ranked = sorted(range(len(scores)), key=lambda index: (-float(scores[index]), index))
    if sampling.top_k:
        ranked = ranked[: sampling.top_k]
    best = float(scores[ranked[0]])
    weights = [math.exp(float(scores[index]) - best) for index in ranked]
    if sampling.top_p < 1:
        total, kept = 0.0, 0
        for weight in weights:
            total += weight / math.fsum(weights)
            kept += 1
            if total >= sampling.top_p:
                break
        ranked, weights = ranked[:kept], weights[:kept]
    return [
        index
        for index, weight in zip(ranked, weights, strict=True)
        if weight >= sampling.min_p or index == ranked[0]
    ]


def random_scores(seed: int, size: int, spread: float, steps: int) -> Scores:
    values = np.random.default_rng(seed).standard_normal(size) * spread
    if steps:  # many equal scores
        values = np.round(values * steps) / steps
    return values.astype(np.float32)


SAMPLINGS = st.builds(
    TokenSampling,
    top_k=st.sampled_from([0, 1, 2, 5, 50, 127, 128, 129, 400]),
    top_p=st.sampled_from([0.01, 0.3, 0.5, 0.9, 0.951, 1.0]),
    min_p=st.sampled_from([0.0, 0.049, 0.2, 1.0]),
    temperature=st.sampled_from([0.1, 1.0, 2.0]),
)


@settings(max_examples=150, deadline=None)
@given(
    SAMPLINGS,
    st.integers(0, 10_000),
    st.sampled_from([3, 40, 1500, 3001]),
    st.sampled_from([0.1, 2.0, 8.0]),
    st.sampled_from([0, 3]),
)
def test_candidates_are_those_of_the_written_out_sampler(
    sampling: TokenSampling, seed: int, size: int, spread: float, steps: int
) -> None:
    scores = random_scores(seed, size, spread, steps)
    mine, theirs = candidates_of(scores, sampling).tolist(), written_out(scores, sampling)
    # A sum that is equal to top_p up to rounding may end one candidate sooner or later.
    assert mine == theirs or (sampling.top_p < 1 and abs(len(mine) - len(theirs)) == 1)
    assert mine[: len(theirs)] == theirs[: len(mine)]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3000), st.sampled_from([0, 1]))
def test_largest_orders_equal_scores_by_place(seed: int, count: int, steps: int) -> None:
    scores = random_scores(seed, 3000, 2.0, steps)
    ranked = sorted(range(3000), key=lambda index: (-float(scores[index]), index))
    assert largest(scores, count).tolist() == ranked[:count]


@pytest.mark.parametrize("top_k", [1, 50, 0])
@pytest.mark.parametrize(("top_p", "min_p"), [(0.95, 0.05), (0.5, 0.0), (1.0, 0.3), (1.0, 0.0)])
def test_llama_cpps_own_chain_keeps_the_same_tokens(top_k: int, top_p: float, min_p: float) -> None:
    from llama_cpp import llama_cpp as lib

    scores = random_scores(top_k + 7, 2000, 3.0, 0)
    data = (lib.llama_token_data * len(scores))()
    for token, score in enumerate(scores.tolist()):
        data[token] = lib.llama_token_data(id=token, logit=score, p=0.0)
    array = lib.llama_token_data_array(data=data, size=len(scores), selected=-1, sorted=False)
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_top_k(top_k))
    lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_top_p(top_p, 1))
    lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_min_p(min_p, 1))
    lib.llama_sampler_apply(chain, ctypes.byref(array))
    kept = {array.data[place].id for place in range(array.size)}
    lib.llama_sampler_free(chain)
    sampling = TokenSampling(top_k=top_k, top_p=top_p, min_p=min_p)
    assert set(candidates_of(scores, sampling).tolist()) == kept


def test_draws_are_as_likely_as_they_should_be() -> None:
    probabilities = np.array([0.5, 0.25, 0.15, 0.1])
    scores = np.full(600, -50.0, np.float32)
    scores[[3, 100, 200, 599]] = np.log(probabilities)
    sampler = RowSampler(TokenSampling(temperature=2.0, top_p=1.0, min_p=0.0, seed=5))
    drawn = [sampler.choose(scores) for _ in range(4000)]
    expected = np.sqrt(probabilities) / np.sqrt(probabilities).sum()
    shares = np.array([drawn.count(place) for place in (3, 100, 200, 599)]) / len(drawn)
    assert np.abs(shares - expected).max() < 4 * np.sqrt(0.25 / len(drawn))


def test_a_seed_repeats_itself_and_another_does_not() -> None:
    scores = random_scores(1, CHOICES, 1.0, 0)

    def drawn(seed: int) -> list[int]:
        sampler = RowSampler(TokenSampling(seed=seed))
        return [sampler.choose(scores) for _ in range(20)]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)
    assert drawn(-1) == drawn((1 << 64) - 1)


@pytest.mark.parametrize("greedy", [True, False])
def test_the_end_waits_for_the_minimum(greedy: bool) -> None:
    sampler = RowSampler(TokenSampling(min_tokens=3, greedy=greedy))
    scores = random_scores(2, CHOICES, 1.0, 0)

    def choose() -> int:
        scores[END] = 100.0
        return sampler.choose(scores)

    assert END not in [choose() for _ in range(3)]
    assert choose() == END


def test_greedy_takes_the_first_of_the_best() -> None:
    scores = np.zeros(CHOICES, np.float32)
    scores[[70, 900]] = 1.0
    assert RowSampler(TokenSampling(greedy=True)).choose(scores) == 70


@pytest.mark.parametrize("greedy", [True, False])
def test_scores_that_are_no_numbers_are_an_error(greedy: bool) -> None:
    scores = np.full(CHOICES, np.nan, np.float32)
    with pytest.raises(EngineError, match="not a number"):
        RowSampler(TokenSampling(greedy=greedy)).choose(scores)
