from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.runtime.nn.sampling import (
    SamplerOptions,
    SamplerRows,
    choose,
    gumbel,
    keyed_draw,
    penalise,
    restrict,
    split_seed,
    stream_keys,
)

CPU = torch.device("cpu")


def sampler(*options: SamplerOptions) -> SamplerRows:
    rows = SamplerRows.build(len(options), CPU)
    for row, each in enumerate(options):
        rows.set(row, each)
    return rows


def seeds(*values: int) -> Tensor:
    return torch.tensor([split_seed(value) for value in values])


def naive(scores: list[float], options: SamplerOptions) -> list[float]:
    """Temperature, top-k with ties, top-p, in plain Python."""
    scores = [score / options.temperature for score in scores]
    if options.top_k:
        least = sorted(scores)[-min(options.top_k, len(scores))]
        scores = [score if score >= least else -math.inf for score in scores]
    if options.top_p < 1:
        order = sorted(range(len(scores)), key=scores.__getitem__)
        whole, below = sum(math.exp(score) for score in scores), 0.0
        for index in order[:-1]:
            below += math.exp(scores[index]) / whole
            if below <= 1 - options.top_p:
                scores[index] = -math.inf
    return scores


many = st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=12, max_size=12)
ways = st.builds(
    SamplerOptions,
    temperature=st.sampled_from([0.3, 0.9, 1.7]),
    top_k=st.integers(0, 15),
    top_p=st.sampled_from([0.05, 0.37, 0.81, 1.0]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(many, ways), min_size=1, max_size=4))
def test_each_row_is_restricted_its_own_way(rows: list[tuple[list[float], SamplerOptions]]) -> None:
    scores = torch.tensor([row for row, _ in rows], dtype=torch.float64)
    result = restrict(scores, sampler(*(options for _, options in rows)))
    for (row, options), got in zip(rows, result, strict=True):
        expected = naive(row, options)
        # Which one of equal scores falls to top-p is up to the sort; their number is not.
        assert sorted(got.tolist()) == pytest.approx(sorted(expected))


short = st.builds(
    SamplerOptions,
    temperature=st.sampled_from([0.3, 0.9, 1.7]),
    top_k=st.integers(1, 7),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(many, st.just(SamplerOptions(greedy=True)) | short), min_size=1))
def test_a_short_top_k_needs_no_sort(rows: list[tuple[list[float], SamplerOptions]]) -> None:
    scores = torch.tensor([row for row, _ in rows], dtype=torch.float64)
    options = sampler(*(each for _, each in rows))
    assert all(each.fits(7) for _, each in rows)
    sorted_out, quick = restrict(scores, options), restrict(scores, options, 7)
    draws = ~options.greedy
    assert torch.equal(quick[draws], sorted_out[draws])


def test_what_a_short_list_is_not_enough_for() -> None:
    for options in ({"top_k": 0}, {"top_k": 65}, {"top_k": 50, "top_p": 0.9}):
        assert not SamplerOptions(**options).fits(64)  # type: ignore[arg-type]


def test_ties_at_the_kth_score_are_kept() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0, 2.0, 0.0]])
    kept = restrict(scores, sampler(SamplerOptions(temperature=1.0, top_k=2)))
    assert kept.isfinite().tolist() == [[True, False, True, True, False]]


def test_top_p_keeps_the_best_score_however_small() -> None:
    scores = torch.tensor([[0.0, 0.1, 0.0, 0.05]])
    kept = restrict(scores, sampler(SamplerOptions(temperature=1.0, top_k=0, top_p=0.01)))
    assert kept.isfinite().tolist() == [[False, True, False, False]]


def test_suppressed_scores_stay_suppressed() -> None:
    scores = torch.tensor([[-math.inf, 1.0, -math.inf, 0.5]])
    kept = restrict(scores, sampler(SamplerOptions(top_k=3, top_p=0.9)))
    assert kept.isfinite().tolist() == [[False, True, False, True]]


def test_the_penalty_lowers_what_was_seen_on_either_side_of_zero() -> None:
    scores = torch.tensor([[2.0, -2.0, 2.0, -2.0], [2.0, -2.0, 2.0, -2.0]])
    seen = torch.tensor([[True, True, False, False], [True, False, False, False]])
    lowered = penalise(scores, seen, torch.tensor([2.0, 4.0]))
    assert lowered.tolist() == [[1.0, -4.0, 2.0, -2.0], [0.5, -2.0, 2.0, -2.0]]


def test_greedy_rows_take_the_best_beside_rows_that_draw() -> None:
    scores = torch.tensor([[0.0, 5.0, 1.0], [0.0, 5.0, 1.0]])
    rows = sampler(SamplerOptions(greedy=True), SamplerOptions(top_k=0))
    picked = choose(scores, rows, 0, lambda scores, group: torch.tensor([2, 2]))
    assert picked.tolist() == [1, 2]


def test_draws_follow_the_probabilities() -> None:
    count = 20_000
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0, -math.inf])
    draw = keyed_draw(seeds(7).repeat(count, 1), torch.arange(count), [5, 5])
    for group in (0, 1):
        picked = draw(scores.repeat(count, 1), group)
        counts = torch.bincount(picked, minlength=5)
        assert counts[4] == 0
        expected = scores.double().softmax(-1)[:4] * count
        assert stats.chisquare(counts[:4].numpy(), expected.numpy()).pvalue > 1e-4


def test_noise_is_uniform_under_its_transform_and_free_of_repetition() -> None:
    keys = stream_keys(seeds(5).repeat(64, 1), torch.arange(64), range(1))[:, 0]
    noise = gumbel(keys, 3072)
    uniform = torch.exp(-torch.exp(-noise.double())).flatten().numpy()
    assert stats.kstest(uniform, "uniform").pvalue > 1e-4
    assert abs(stats.pearsonr(noise[:-1].flatten(), noise[1:].flatten())[0]) < 0.01
    assert noise.isfinite().all()


def test_streams_of_seeds_frames_and_groups_differ() -> None:
    def stream(seed: int, frame: int) -> list[int]:
        draw = keyed_draw(seeds(seed), torch.tensor([frame]), [2048] * 16)
        return [int(draw(torch.zeros(1, 2048), group)) for group in range(16)]

    streams = [stream(seed, frame) for seed in (0, 1, 2**32, 2**63, -1) for frame in (0, 1, 2)]
    drawn = [tuple(one) for one in streams]
    assert len(set(drawn)) == len(drawn)
    assert all(len(set(one)) > 12 for one in drawn)
    for group in range(16):
        assert len({one[group] for one in drawn}) > 12


def test_a_row_draws_the_same_in_any_company() -> None:
    scores = torch.randn(5, 2048, dtype=torch.float64)
    own, frames = seeds(1, 2, 3, 4, 5), torch.tensor([0, 9, 2, 100, 7])
    together = keyed_draw(own, frames, [2048, 2048])(scores, 1)
    for row in (0, 3):
        part = slice(row, row + 1)
        single = keyed_draw(own[part], frames[part], [2048, 2048])(scores[part], 1)
        assert single.tolist() == together[part].tolist()


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -1}, "top_k"),
    ],
)
def test_options_out_of_range(wrong: dict[str, float], param: str) -> None:
    with pytest.raises(InputError) as raised:
        SamplerOptions(**wrong)  # type: ignore[arg-type]
    assert raised.value.param == param
