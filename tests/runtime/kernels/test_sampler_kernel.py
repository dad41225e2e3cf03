"""The sampler in the interpreter: the plain path's very choices."""

from __future__ import annotations

import pytest
import torch

from vivavoce.runtime.kernels import sampler as plain
from vivavoce.runtime.kernels import sampler_triton as fused
from vivavoce.runtime.kernels.sampler import Into, Noise, Rules
from vivavoce.runtime.nn.sampling import SamplerOptions, SamplerRows, keyed_draw

BF16 = torch.bfloat16
ROWS = 6


def sampler_of(*options: SamplerOptions) -> SamplerRows:
    rows = SamplerRows.build(ROWS, torch.device("cpu"))
    for row in range(ROWS):
        rows.set(row, options[row % len(options)])
    return rows


def noise_of(frame: int = 3) -> Noise:
    return Noise(torch.randint(0, 2**32, (ROWS, 2)), torch.arange(ROWS) + frame)


EVERY_KIND = (
    SamplerOptions(),
    SamplerOptions(top_k=0),
    SamplerOptions(top_k=1),
    SamplerOptions(greedy=True),
    SamplerOptions(top_k=0, top_p=0.7, temperature=1.7),
    SamplerOptions(top_k=40, top_p=0.9, temperature=0.3),
)


@pytest.mark.parametrize("vocabulary", [2048, 3072, 1000, 37])
@pytest.mark.parametrize("group", [1, 15])
def test_the_same_choices_as_the_plain_path(vocabulary: int, group: int) -> None:
    sampler = sampler_of(*EVERY_KIND)
    for frame in range(2):
        scores, noise = torch.randn(ROWS, vocabulary) * 4, noise_of(frame)
        wanted, _ = plain.sample(scores, sampler, noise, group)
        got, embedded = fused.sample(scores, sampler, noise, group)
        assert embedded is None
        assert torch.equal(got, wanted)


def test_ties_of_narrow_scores_are_kept_in_top_k() -> None:
    """bfloat16 scores repeat; all that equal the k-th stay in."""
    sampler = sampler_of(SamplerOptions(top_k=3), SamplerOptions(top_k=5, temperature=0.5))
    scores = torch.randint(0, 6, (ROWS, 2048)).to(BF16)
    seen = set()
    for frame in range(5):
        noise = noise_of(frame)
        wanted, _ = plain.sample(scores, sampler, noise, 2)
        got, _ = fused.sample(scores, sampler, noise, 2)
        assert torch.equal(got, wanted)
        seen |= set(got.tolist())
    assert len(seen) > 10
    assert (scores.gather(1, got[:, None]) == 5).all()


def test_the_rules_of_code_0() -> None:
    vocabulary, end = 3072, 2150
    for frame in range(2):
        rules = Rules(
            torch.rand(ROWS, vocabulary) < 0.3,
            1 + torch.rand(ROWS),
            torch.rand(ROWS) < 0.5,
            end,
            vocabulary - 1024,
        )
        scores = torch.randn(ROWS, vocabulary) * 3
        scores[:, end] = 30  # it is drawn wherever it may be
        noise = noise_of(frame)
        wanted, _ = plain.sample(scores, sampler_of(*EVERY_KIND), noise, 0, rules)
        got, _ = fused.sample(scores, sampler_of(*EVERY_KIND), noise, 0, rules)
        assert torch.equal(got, wanted)
        assert torch.equal(got == end, ~rules.no_end)


def test_the_noise_is_that_of_the_engine() -> None:
    """What ``frame`` draws with its own keyed noise."""
    scores, noise = torch.randn(ROWS, 256), noise_of()
    draw = keyed_draw(noise.seeds, noise.counters, [256] * 16)
    got, _ = fused.sample(scores, sampler_of(SamplerOptions(temperature=1.0, top_k=0)), noise, 7)
    assert torch.equal(got, draw(scores, 7))


def test_another_seed_frame_or_group_is_another_draw() -> None:
    scores, noise = torch.zeros(ROWS, 2048), noise_of()
    sampler = sampler_of(SamplerOptions(top_k=0))
    first, _ = fused.sample(scores, sampler, noise, 1)
    assert (first != fused.sample(scores, sampler, noise, 2)[0]).any()
    later = Noise(noise.seeds, noise.counters + 1)
    assert (first != fused.sample(scores, sampler, later, 1)[0]).any()
    other = Noise(noise.seeds + 1, noise.counters)
    assert (first != fused.sample(scores, sampler, other, 1)[0]).any()


@pytest.mark.parametrize("hidden", [1024, 2048, 300])
def test_the_embedding_of_the_choice_comes_with_it(hidden: int) -> None:
    scores, table = torch.randn(ROWS, 500), torch.randn(500, hidden).to(BF16)
    choice, embedded = fused.sample(scores, sampler_of(*EVERY_KIND), noise_of(), 4, None, table)
    assert embedded is not None
    assert torch.equal(embedded, table[choice])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_still_give_a_code(bad: float) -> None:
    scores = torch.full((ROWS, 1000), bad)
    got, _ = fused.sample(scores, sampler_of(*EVERY_KIND), noise_of(), 1)
    assert ((got >= 0) & (got < 1000)).all()


@pytest.mark.parametrize("groups", [3, 16])
def test_choices_and_embeddings_go_where_they_are_wanted(groups: int) -> None:
    """A column of a frame's codes, every other row of twice as many, and nothing else."""
    scores, table = torch.randn(ROWS, 500), torch.randn(500, 300).to(BF16)
    for group in (0, 2):
        codes, pair = torch.full((ROWS, groups), -1), torch.zeros(ROWS, 2, 300).to(BF16)
        into = Into(codes, pair[:, 1])
        noise = noise_of(group)
        wanted, _ = plain.sample(scores, sampler_of(*EVERY_KIND), noise, group)
        got, _ = fused.sample(scores, sampler_of(*EVERY_KIND), noise, group, None, table, into)
        assert torch.equal(got, wanted) and torch.equal(codes[:, group], wanted)
        assert (codes == -1).sum() == ROWS * (groups - 1)
        assert torch.equal(pair[:, 1], table[wanted]) and not pair[:, 0].any()
