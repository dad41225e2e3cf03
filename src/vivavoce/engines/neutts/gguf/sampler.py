"""Drawing one of the 65,537 tokens that can be spoken, as llama.cpp's sampler chain does.

The order is that of llama-cpp-python's ``create_completion``: top-k, top-p, min-p, temperature,
draw (its typical-p of 1 and repeat penalty of 1 do nothing). So top-p and min-p look at the
probabilities before the temperature is applied. Where llama.cpp leaves the order of equal scores
open, the lower token comes first here; the draw has its own random numbers, so that the same seed
gives another, equally likely, token than llama.cpp.
"""

from __future__ import annotations

from math import log
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivavoce.engines.neutts.backbone import SPEECH_CODES, TokenSampling
from vivavoce.errors import EngineError

Scores: TypeAlias = NDArray[np.float32]
"""Logits of what can be said, shape (65537,), float32: END first, then the codes."""

END = 0
CHOICES = 1 + SPEECH_CODES

_GROUPS = 256
"""The k-th largest of that many groups' maxima is at most the k-th largest of all."""

_SEED_BITS = (1 << 64) - 1


class RowSampler:
    """Draws for one row; what it draws depends on its own scores and seed alone."""

    def __init__(self, sampling: TokenSampling) -> None:
        self._sampling = sampling
        self._made = 0
        self._rng = np.random.Generator(np.random.Philox(sampling.seed & _SEED_BITS))

    def choose(self, scores: Scores) -> int:
        """The next choice, 0 for END and code + 1 for a code. Changes ``scores[END]``.

        Raises EngineError where the scores are no numbers.
        """
        if self._made < self._sampling.min_tokens:
            scores[END] = -np.inf
        self._made += 1
        chosen = int(scores.argmax()) if self._sampling.greedy else self._draw(scores)
        if not np.isfinite(scores[chosen]):
            raise EngineError("The model's output is not a number; its file may be damaged.")
        return chosen

    def _draw(self, scores: Scores) -> int:
        # In the tokens' order: rounding that swaps two equally likely ones then alters little.
        candidates = np.sort(candidates_of(scores, self._sampling))
        kept = scores[candidates].astype(np.float64)
        weights = np.exp((kept - kept.max()) / self._sampling.temperature)
        sums = weights.cumsum()
        place = int(sums.searchsorted(self._rng.random() * sums[-1], side="right"))
        return int(candidates[min(place, len(candidates) - 1)])


def candidates_of(scores: Scores, sampling: TokenSampling) -> NDArray[np.intp]:
    """What top-k, top-p and min-p leave, the likeliest first; never empty."""
    candidates = largest(scores, sampling.top_k)
    kept = scores[candidates].astype(np.float64)
    count = len(kept)
    if sampling.top_p < 1:
        weights = np.exp(kept - kept[0])
        sums = weights.cumsum()
        count = min(count, int(np.searchsorted(sums, sampling.top_p * sums[-1])) + 1)
    if sampling.min_p > 0:
        least = kept[0] + log(sampling.min_p)
        count = min(count, max(1, int(np.searchsorted(-kept, -least, side="right"))))
    return candidates[:count]


def largest(scores: Scores, count: int) -> NDArray[np.intp]:
    """Places of the ``count`` largest (0: of all), in descending order, equal ones ascending."""
    total = len(scores)
    if not 0 < count < total:
        return np.argsort(-scores, kind="stable")
    few = np.arange(total)
    if count <= _GROUPS // 2 and total > 4 * _GROUPS:
        maxima = scores[: total - total % _GROUPS].reshape(-1, _GROUPS).max(axis=0)
        few = np.flatnonzero(scores >= np.partition(maxima, _GROUPS - count)[_GROUPS - count])
    if len(few) < count:  # not a number somewhere
        few = np.arange(total)
    return few[np.argsort(-scores[few], kind="stable")[:count]]
