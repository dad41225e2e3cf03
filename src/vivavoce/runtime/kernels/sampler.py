"""From scores to codes and their embeddings, for all rows at once; plain PyTorch.

The noise is counter-based: a number of a row's seed, its frame, the code group and the code alone,
so a row draws the same in any company and in any kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vivavoce.runtime.nn.sampling import (
    SamplerRows,
    choose,
    gumbel,
    penalise,
    stream_keys,
)


@dataclass(frozen=True, slots=True)
class Noise:
    """What the noise of B rows follows from: ``seeds`` int64 [B, 2], ``counters`` int64 [B]."""

    seeds: Tensor
    counters: Tensor


@dataclass(frozen=True, slots=True)
class Rules:
    """What applies to code 0 only.

    ``seen`` bool [B, V] and ``penalty`` [B]: the repetition penalty. Codes from ``first_control``
    are excluded, except ``end``, which is where ``no_end`` bool [B] says so.
    """

    seen: Tensor
    penalty: Tensor
    no_end: Tensor
    end: int
    first_control: int

    def apply(self, scores: Tensor) -> Tensor:
        """Float scores [B, V] after the rules."""
        scores = penalise(scores, self.seen, self.penalty)
        code = torch.arange(scores.shape[-1], device=scores.device)
        is_end = code == self.end
        banned = ((code >= self.first_control) & ~is_end) | (is_end & self.no_end[:, None])
        return scores.masked_fill(banned, -torch.inf)


@dataclass(frozen=True, slots=True)
class Into:
    """Where choices go instead of into new memory.

    ``codes`` int64 [B, G], contiguous: a choice of group g into column g. ``embedded`` [B, H], rows
    of which are contiguous: what is read of the table.
    """

    codes: Tensor
    embedded: Tensor | None = None


def sample(
    scores: Tensor,
    sampler: SamplerRows,
    noise: Noise,
    group: int,
    rules: Rules | None = None,
    table: Tensor | None = None,
    into: Into | None = None,
) -> tuple[Tensor, Tensor | None]:
    """One code of ``group`` for each row, int64 [B], and its row [B, H] of ``table`` [V, H]."""
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if rules is not None:
        wide = rules.apply(wide)

    def draw(restricted: Tensor, group: int) -> Tensor:
        keys = stream_keys(noise.seeds, noise.counters, range(group, group + 1))
        return (restricted + gumbel(keys, restricted.shape[-1])[:, 0]).argmax(-1)

    choice = choose(wide, sampler, group, draw)
    embedded = None if table is None else table[choice]
    if into is not None:
        choice = into.codes[:, group].copy_(choice)
        if into.embedded is not None and embedded is not None:
            embedded = into.embedded.copy_(embedded)
    return choice, embedded


def embed_sum(codes: Tensor, first: Tensor, others: Tensor) -> Tensor:
    """The sum of a frame's embeddings: ``codes`` [B, G] to [B, H].

    ``first`` [V, H] is the table of code 0, ``others`` [G - 1, V', H] those of the rest.
    """
    groups = torch.arange(others.shape[0], device=codes.device)
    rest = others[groups, codes[:, 1:]]
    return torch.cat((first[codes[:, :1]], rest), 1).sum(1)
