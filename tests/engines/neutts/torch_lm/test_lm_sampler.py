"""Draws follow the options as written out here and as the NumPy sampler has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.engines.neutts.backbone import TokenSampling
from vivavoce.engines.neutts.gguf.sampler import candidates_of
from vivavoce.engines.neutts.torch_config import LmConfig
from vivavoce.engines.neutts.torch_rows import RowState, choose
from vivavoce.runtime.nn.sampling import NARROW, gumbel_of, is_wide, row_keys, split_seed

CHOICES = 400
CONFIG = LmConfig("qwen2", 8, 8, 1, 1, 1, 8, 500, 64, 1e-6, 1e4, None, True)


def rows_of(*samplings: TokenSampling) -> RowState:
    state = RowState.build(CONFIG, len(samplings), 8, CHOICES, torch.zeros(1))
    for row, sampling in enumerate(samplings):
        state.start(row, 1, sampling, 5)
    return state


def random_scores(rows: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, CHOICES, generator=generator) * 3


def allowed(scores: np.ndarray, sampling: TokenSampling) -> dict[int, float]:
    """What may be drawn, with its probability: each rule in turn, as llama.cpp has them."""
    ranked = sorted(range(len(scores)), key=lambda choice: -scores[choice])
    if sampling.top_k:
        ranked = ranked[: sampling.top_k]
    chances = np.exp(scores[ranked] - scores[ranked[0]])
    chances = chances / chances.sum()
    kept, total = [], 0.0
    for choice, chance in zip(ranked, chances, strict=True):
        if sampling.top_p < 1 and total >= sampling.top_p:
            break
        total += chance
        if chance >= sampling.min_p * chances[0]:
            kept.append(choice)
    weights = np.exp((scores[kept] - scores[kept[0]]) / sampling.temperature)
    return dict(zip(kept, weights / weights.sum(), strict=True))


@pytest.mark.parametrize(
    "sampling",
    [
        TokenSampling(),
        TokenSampling(temperature=0.6, top_k=0, top_p=1.0, min_p=0.0),
        TokenSampling(temperature=1.7, top_k=5, top_p=1.0, min_p=0.0),
        TokenSampling(top_k=0, top_p=0.5, min_p=0.0),
        TokenSampling(top_k=0, top_p=1.0, min_p=0.2),
        TokenSampling(top_k=300, top_p=0.9, min_p=0.01, temperature=1.3),
    ],
)
def test_draws_follow_the_written_out_chances(sampling: TokenSampling) -> None:
    rows, rounds = 500, 8
    draws = rows * rounds
    scores = random_scores(1)
    state = rows_of(*[sampling] * rows)
    state.counts.copy_(torch.arange(rows))
    expected = allowed(scores[0].double().numpy(), sampling)
    counts = dict.fromkeys(expected, 0)
    for _ in range(rounds):
        for choice in choose(scores.expand(rows, -1), state, wide=is_wide(sampling.top_k)):
            counts[int(choice)] += 1
        state.counts.add_(rows)
    for choice, chance in expected.items():
        spread = (draws * chance * (1 - chance)) ** 0.5
        assert abs(counts[choice] - draws * chance) < 5 * spread + 3


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.one_of(st.just(0), st.integers(1, CHOICES + 10)),
    st.floats(0.01, 1.0),
    st.one_of(st.just(0.0), st.floats(0.001, 1.0)),
)
def test_what_may_be_drawn_is_what_the_numpy_sampler_keeps(
    seed: int, top_k: int, top_p: float, min_p: float
) -> None:
    sampling = TokenSampling(top_k=top_k, top_p=top_p, min_p=min_p, temperature=50.0, seed=seed)
    scores = random_scores(1, seed % 7)
    theirs = set(candidates_of(scores[0].numpy(), sampling).tolist())
    state = rows_of(*[sampling] * 8)
    state.counts.copy_(torch.arange(8))
    drawn = choose(scores.expand(8, -1), state, wide=is_wide(top_k))
    assert set(drawn.tolist()) <= theirs


def test_a_row_draws_the_same_in_any_company() -> None:
    samplings = [
        TokenSampling(seed=3, top_k=40),
        TokenSampling(seed=4, top_k=0),
        TokenSampling(seed=5, top_k=NARROW + 1, top_p=0.8),
        TokenSampling(greedy=True),
    ]
    scores = random_scores(4)
    together = choose(scores, rows_of(*samplings), wide=True).tolist()
    alone = [
        int(choose(scores[row : row + 1], rows_of(each), wide=is_wide(each.top_k))[0])
        for row, each in enumerate(samplings)
    ]
    assert together == alone


def test_greedy_takes_the_best_and_end_is_banned() -> None:
    scores = random_scores(2)
    scores[:, 0] = 100.0
    state = rows_of(TokenSampling(greedy=True), TokenSampling(greedy=True, min_tokens=3))
    assert choose(scores, state, wide=False).tolist() == [0, 1 + int(scores[1, 1:].argmax())]
    state.counts.add_(3)
    assert choose(scores, state, wide=False).tolist() == [0, 0]
    drawing = rows_of(TokenSampling(min_tokens=1), TokenSampling(min_tokens=1, top_k=0))
    assert 0 not in choose(scores, drawing, wide=True).tolist()


def test_noise_is_gumbel_and_keyed_by_seed_count_and_choice() -> None:
    seeds = torch.tensor([split_seed(9), split_seed(9), split_seed(9 + 2**32), split_seed(10)])
    counts = torch.tensor([0, 1, 0, 0])
    choices = torch.arange(20_000).expand(4, -1)
    keys = row_keys(seeds, counts[:, None])[:, 0]
    noise = gumbel_of(keys, choices)
    assert noise.isfinite().all()
    # Mean: Euler's constant; variance: pi squared over 6.
    assert torch.allclose(noise.mean(1), torch.full((4,), 0.5772), atol=0.05)
    assert torch.allclose(noise.var(1), torch.full((4,), 1.6449), atol=0.1)
    near = torch.corrcoef(noise) - torch.eye(4)
    assert float(near.abs().max()) < 0.03
    some = torch.tensor([[5, 17]]).expand(4, -1)
    assert torch.equal(gumbel_of(keys, some), noise[:, [5, 17]])


def test_negative_and_large_seeds_are_taken_by_their_bits() -> None:
    assert split_seed(2**64 + 5) == (5, 0)
    assert split_seed(-1) == (2**32 - 1, 2**32 - 1)
