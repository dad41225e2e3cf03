"""Choosing codes from scores, for all rows of a batch at once.

The order and the arithmetic of ``choose`` are those of ``transformers`` 4.57 generation, which the
published models of Qwen3-TTS are run with: repetition penalty, end ban, suppression, temperature,
top-k, top-p, draw. ``choose_ranked`` has llama.cpp's, as NeuTTS is run: top-k, top-p, min-p,
temperature, draw. Noise is counter-based (Salmon et al. 2011): there is no generator state, so a
row draws the same in any company, and a captured graph draws anew at each replay. Nothing here
synchronizes with the host, and no shape depends on data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from vivavoce.errors import InputError

Draw: TypeAlias = Callable[[Tensor, int], Tensor]
"""From scores [B, V] (-inf where excluded) and the code group 0..15 to choices [B], int64."""

_MASK = 0xFFFFFFFF
_MOST_GROUPS = 32
_NOISE_BITS = 23  # what float32 holds without rounding up to 1


@dataclass(frozen=True, slots=True)
class SamplerOptions:
    """How one row draws. ``top_k`` 0 keeps all; ``temperature`` is unused when ``greedy``."""

    greedy: bool = False
    temperature: float = 0.9
    top_k: int = 50
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not self.greedy and not 0 < self.temperature < float("inf"):
            raise InputError("The temperature must be over 0.", param="temperature")
        if not 0 < self.top_p <= 1:
            raise InputError("top_p must be over 0 and at most 1.", param="top_p")
        if self.top_k < 0:
            raise InputError("top_k must be 0 or more.", param="top_k")

    def fits(self, most: int) -> bool:
        """Whether ``restrict`` can do with its ``most`` best scores."""
        return self.greedy or (0 < self.top_k <= most and self.top_p == 1)


@dataclass(frozen=True, slots=True)
class SamplerRows:
    """``SamplerOptions`` of B rows as tensors [B]: bool, float32, int64, float32.

    ``tail`` is 1 - top_p, the probability that may be cut off, rounded once.
    """

    greedy: Tensor
    temperature: Tensor
    top_k: Tensor
    tail: Tensor

    @classmethod
    def build(cls, rows: int, device: torch.device) -> SamplerRows:
        """All rows greedy until they are set."""
        return cls(
            torch.ones(rows, dtype=torch.bool, device=device),
            torch.ones(rows, device=device),
            torch.zeros(rows, dtype=torch.int64, device=device),
            torch.zeros(rows, device=device),
        )

    def set(self, row: int, options: SamplerOptions) -> None:
        """Give one row its options."""
        self.greedy[row] = options.greedy
        self.temperature[row] = 1.0 if options.greedy else options.temperature
        self.top_k[row] = options.top_k
        self.tail[row] = 1 - options.top_p

    def rows(self, start: int, stop: int) -> SamplerRows:
        """A view of some rows, sharing memory."""
        part = slice(start, stop)
        return SamplerRows(
            self.greedy[part], self.temperature[part], self.top_k[part], self.tail[part]
        )


def penalise(scores: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """Repetition penalty (Keskar et al. 2019): ``scores`` [B, V], ``seen`` [B, V], penalty [B]."""
    factor = penalty[:, None].to(scores.dtype)
    return torch.where(seen, torch.where(scores < 0, scores * factor, scores / factor), scores)


def choose(scores: Tensor, sampler: SamplerRows, group: int, draw: Draw, most: int = 0) -> Tensor:
    """One choice per row, int64 [B], from float ``scores`` [B, V]; ``most``: see ``restrict``."""
    best = scores.argmax(-1)
    drawn = draw(restrict(scores, sampler, most), group)
    return torch.where(sampler.greedy, best, drawn)


def restrict(scores: Tensor, sampler: SamplerRows, most: int = 0) -> Tensor:
    """Scores [B, V] over the temperature, -inf outside of top-k (ties kept) and top-p.

    ``most`` over 0 promises that every row that draws keeps 1 to ``most`` codes by top-k and has
    no top-p: nothing then needs to be sorted, and the result is the same.
    """
    scores = scores / sampler.temperature[:, None].to(scores.dtype)
    size = scores.shape[-1]
    if most:
        last = sampler.top_k.clamp(1, min(most, size))[:, None] - 1
        least = scores.topk(min(most, size)).values.gather(-1, last)
        return scores.masked_fill(scores < least, -torch.inf)
    ascending, order = scores.sort(-1)
    kept = torch.where(sampler.top_k > 0, sampler.top_k, size).clamp(max=size)
    least = ascending.gather(-1, (size - kept)[:, None])
    ascending = ascending.masked_fill(ascending < least, -torch.inf)
    removed = _outside_top_p(ascending, sampler.tail)
    excluded = torch.zeros_like(removed).scatter(-1, order, removed) | (scores < least)
    return scores.masked_fill(excluded, -torch.inf)


def _outside_top_p(ascending: Tensor, tail: Tensor) -> Tensor:
    """Of ascending scores, those whose summed probability is within the tail; never the last."""
    limit = tail[:, None].to(ascending.dtype)
    removed = (ascending.softmax(-1).cumsum(-1) <= limit) & (limit > 0)
    removed[:, -1].zero_()
    return removed


def keyed_draw(seeds: Tensor, counters: Tensor, sizes: Sequence[int]) -> Draw:
    """A draw whose noise depends on a row's own seed and frame only, not on its company.

    ``seeds`` [B, 2] int64 halves of 32 bits; ``counters`` [B] int64, the row's frame number;
    ``sizes``: how many codes each group of a frame chooses from. The draw is exact by the
    Gumbel-max trick (Gumbel 1954).
    """
    first = gumbel(stream_keys(seeds, counters, range(1)), sizes[0])
    # One pass over all other groups: they are many and small.
    others = gumbel(stream_keys(seeds, counters, range(1, len(sizes))), max(sizes[1:]))

    def draw(scores: Tensor, group: int) -> Tensor:
        noise = first[:, 0] if group == 0 else others[:, group - 1, : sizes[group]]
        return (scores + noise).argmax(-1)

    return draw


NARROW = 128
"""The largest top-k for which ``choose_ranked`` need not sort the scores whole."""


def is_wide(top_k: int) -> bool:
    """Whether a row needs all scores in order."""
    return top_k == 0 or top_k > NARROW


class RankedRows(Protocol):
    """What ``choose_ranked`` reads of B rows: [B] each, ``seeds`` [B, 2] halves of 32 bits.

    ``counts`` [B] int64 is how many codes a row has drawn, the counter of its noise.
    """

    @property
    def greedy(self) -> Tensor:
        """Bool: take the best."""

    @property
    def temperature(self) -> Tensor:
        """Float32."""

    @property
    def top_k(self) -> Tensor:
        """Int64; 0 keeps all."""

    @property
    def top_p(self) -> Tensor:
        """Float32."""

    @property
    def min_p(self) -> Tensor:
        """Float32."""

    @property
    def seeds(self) -> Tensor:
        """Int64."""

    @property
    def counts(self) -> Tensor:
        """Int64."""


def choose_ranked(scores: Tensor, rows: RankedRows, *, wide: bool) -> Tensor:
    """Choices int64 [B] from float32 ``scores`` [B, C], by each row's own options.

    ``wide`` must be set when any row ``is_wide``; a row's choice does not depend on it otherwise.
    """
    chosen = _draw_ranked(*scores.topk(min(NARROW, scores.shape[1])), rows)
    if wide:
        whole = _draw_ranked(*scores.sort(-1, descending=True), rows)
        chosen = torch.where((rows.top_k == 0) | (rows.top_k > NARROW), whole, chosen)
    return torch.where(rows.greedy, scores.argmax(-1), chosen)


def _draw_ranked(ranked: Tensor, choices: Tensor, rows: RankedRows) -> Tensor:
    """From scores [B, K] in falling order and the choices [B, K] they belong to.

    Top-k, top-p and min-p leave the first always.
    """
    rank = torch.arange(ranked.shape[1], device=ranked.device)
    top_k, top_p = rows.top_k[:, None], rows.top_p[:, None]
    kept = (top_k == 0) | (rank < top_k)
    chances = ranked.masked_fill(~kept, -torch.inf).softmax(-1)
    before = chances.cumsum(-1) - chances
    kept = kept & ((before < top_p) | (top_p >= 1))
    kept = kept & (ranked >= ranked[:, :1] + rows.min_p[:, None].log())
    noise = gumbel_of(row_keys(rows.seeds, rows.counts[:, None])[:, 0], choices)
    noisy = (ranked / rows.temperature[:, None] + noise).masked_fill(~kept, -torch.inf)
    return choices.gather(1, noisy.argmax(-1, keepdim=True))[:, 0]


def gumbel(keys: Tensor, count: int) -> Tensor:
    """Standard Gumbel noise, float32 [..., count], from keys [..., 2] of 32 bits each."""
    return gumbel_of(keys, torch.arange(count, device=keys.device))


def gumbel_of(keys: Tensor, index: Tensor) -> Tensor:
    """The noise of some choices ``index`` [..., K] alone: the same as among all."""
    bits = _mix(_mix(index + keys[..., :1] & _MASK) ^ keys[..., 1:])
    uniform = ((bits >> (32 - _NOISE_BITS)).float() + 0.5) * 2.0**-_NOISE_BITS
    return -torch.log(-torch.log(uniform))


def split_seed(seed: int) -> tuple[int, int]:
    """The two 32-bit halves of a seed; of larger numbers the lower 64 bits."""
    return seed & _MASK, seed >> 32 & _MASK


def stream_keys(seeds: Tensor, counters: Tensor, groups: range) -> Tensor:
    """Two keys [B, groups, 2] for the draws of each row."""
    numbers = torch.arange(groups.start, groups.stop, device=seeds.device)
    return row_keys(seeds, counters[:, None] * _MOST_GROUPS + numbers)


def row_keys(seeds: Tensor, numbers: Tensor) -> Tensor:
    """Two keys [B, N, 2] for the draws ``numbers`` [B, N] of each row."""
    low, high = seeds[:, :1], seeds[:, 1:]
    first = _mix(_mix(low) + numbers & _MASK)
    second = _mix(_mix(high ^ 0x5851F42D) ^ first) ^ _mix(low + 0x2545F491 & _MASK)
    return torch.stack((first, second), -1)


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit numbers held in int64 (constants of Wellons' hash-prospector).

    The multipliers are below 2**31, so that no product leaves int64.
    """
    x = (x ^ (x >> 16)) * 0x21F0AAAD & _MASK
    x = (x ^ (x >> 15)) * 0x735A2D97 & _MASK
    return x ^ (x >> 15)
