"""Drawing one choice a row from scores, on the device: no synchronization, no shape from data.

The order is llama.cpp's: END's ban, top-k, top-p, min-p, temperature, draw. Choice 0 is END.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vivavoce.engines.neutts.torch_lm.noise import gumbel
from vivavoce.engines.neutts.torch_lm.rows import RowState

NARROW = 128
"""The largest top-k for which the scores need not be sorted whole."""


def is_wide(top_k: int) -> bool:
    """Whether a row needs all scores in order."""
    return top_k == 0 or top_k > NARROW


def choose(scores: Tensor, state: RowState, *, wide: bool) -> Tensor:
    """Choices int64 [B] from float32 ``scores`` [B, C], by each row's own options.

    ``wide`` must be set when any row ``is_wide``; a row's choice does not depend on it otherwise.
    """
    banned = state.counts < state.min_tokens
    scores = torch.cat((scores[:, :1].masked_fill(banned[:, None], -torch.inf), scores[:, 1:]), 1)
    chosen = _draw(*scores.topk(min(NARROW, scores.shape[1])), state)
    if wide:
        whole = _draw(*scores.sort(-1, descending=True), state)
        chosen = torch.where((state.top_k == 0) | (state.top_k > NARROW), whole, chosen)
    return torch.where(state.greedy, scores.argmax(-1), chosen)


def _draw(ranked: Tensor, choices: Tensor, state: RowState) -> Tensor:
    """From scores [B, K] in falling order and the choices [B, K] they belong to."""
    kept = _kept(ranked, state)
    noise = gumbel(state.seeds, state.counts, choices)
    noisy = (ranked / state.temperature[:, None] + noise).masked_fill(~kept, -torch.inf)
    return choices.gather(1, noisy.argmax(-1, keepdim=True))[:, 0]


def _kept(ranked: Tensor, state: RowState) -> Tensor:
    """Which ranks top-k, top-p and min-p leave; the first always."""
    rank = torch.arange(ranked.shape[1], device=ranked.device)
    top_k, top_p = state.top_k[:, None], state.top_p[:, None]
    kept = (top_k == 0) | (rank < top_k)
    chances = ranked.masked_fill(~kept, -torch.inf).softmax(-1)
    before = chances.cumsum(-1) - chances
    kept = kept & ((before < top_p) | (top_p >= 1))
    return kept & (ranked >= ranked[:, :1] + state.min_p[:, None].log())
