"""A loaded model with its rows on the device: prompts in slices, one token of all rows at a time.

On a GPU every shape is one of a few, captured as a graph before the first request; elsewhere
shapes are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vivavoce.engines.neutts.backbone import TokenSampling
from vivavoce.engines.neutts.torch_lm.decode import SliceCursor, draw, prefill, score
from vivavoce.engines.neutts.torch_lm.graphs import Eager, Graphs
from vivavoce.engines.neutts.torch_lm.model import SpeechLm
from vivavoce.engines.neutts.torch_lm.rows import RowState
from vivavoce.engines.neutts.torch_lm.templates import Templates

ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
SLICE_BUCKETS = (16, 64, 128, 256, 512, 1024)
SPAN_STEP = 128


@dataclass(frozen=True, slots=True)
class Buckets:
    """The shapes work is done in: rows, prompt tokens a slice, positions looked at. Rising."""

    rows: tuple[int, ...]
    slices: tuple[int, ...]
    spans: tuple[int, ...]

    @classmethod
    def of(cls, rows: int, slice_tokens: int, context: int) -> Buckets:
        """Powers of two up to ``rows``; a quarter, half and all of the ``context``."""
        spans = {min(context, _up(context // part, SPAN_STEP)) for part in (4, 2)} | {context}
        return cls(
            (*(size for size in ROW_BUCKETS if size < rows), rows),
            (*(size for size in SLICE_BUCKETS if size < slice_tokens), slice_tokens),
            tuple(sorted(spans)),
        )


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


class Runner:
    """``ids`` [C] are the token ids of the model's choices. Row numbers are the caller's."""

    def __init__(
        self,
        model: SpeechLm,
        ids: Tensor,
        *,
        rows: int,
        context: int,
        slice_tokens: int,
        graphs: Graphs,
    ) -> None:
        like = model.norm.weight
        self.state = RowState.build(model.config, rows, context, ids.shape[0], like)
        self.buckets = Buckets.of(rows, slice_tokens, context)
        self.slice_tokens = slice_tokens
        self.templates = Templates()
        self._model, self._ids, self._graphs = model, ids, graphs
        self._cursor = SliceCursor.build(like.device)
        self._exact = isinstance(graphs, Eager)
        self._parts = {size: self.state.first(size) for size in range(1, rows + 1)}

    @property
    def vocabulary_rows(self) -> int:
        """How many token ids the model reads."""
        return self._model.config.vocab_size

    def capture(self) -> int:
        """Capture every shape; all rows must be idle. How many there are."""
        if self._exact:
            return 0
        buckets = self.buckets
        for rows in buckets.rows:
            for span in buckets.spans:
                self._graphs.capture(*self._score(rows, span))
            self._graphs.capture(*self._draw(rows))
        for size in buckets.slices:
            for span in buckets.spans:
                self._graphs.capture(*self._prefill(size, span))
        return len(buckets.rows) * (len(buckets.spans) + 1) + len(buckets.slices) * len(
            buckets.spans
        )

    def prefill(self, row: int, start: int, stop: int) -> None:
        """Evaluate a part of a row's prompt, at most ``slice_tokens``, behind what came before."""
        self._cursor.set(row, start, stop)
        size, span = self._fit(stop - start, "slices"), self._fit(stop, "spans")
        self._graphs.run(*self._prefill(size, span))

    def step(self, rows: int, span: int, *, wide: bool) -> Tensor:
        """One token of the first ``rows``: what they drew, int64, on the device until the next.

        ``span`` must be over every active row's position; ``wide`` as ``sampler.choose`` has it.
        """
        rows, span = self._fit(rows, "rows"), self._fit(span, "spans")
        self._graphs.run(*self._score(rows, span))
        state = self._parts[rows]
        if wide:
            draw(state, self._ids, wide=True)
        else:
            self._graphs.run(*self._draw(rows))
        return state.drawn

    def write_prompt(self, row: int, ids: Sequence[int]) -> None:
        """Put a prompt on the device."""
        self.state.write_prompt(row, ids)

    def start(self, row: int, length: int, sampling: TokenSampling, limit: int) -> None:
        """Let a row speak whose first ``length - 1`` prompt tokens are evaluated."""
        with torch.no_grad():
            self.state.start(row, length, sampling, limit)

    def stop(self, row: int) -> None:
        """Make a row idle."""
        self.state.stop(row)

    def scrub(self, row: int) -> None:
        """Clear what a failed row left: what is not finite would spread from behind the mask."""
        for half in (self.state.kv.keys, self.state.kv.values):
            half[:, row].zero_()
        self.templates.clear()

    def _fit(self, value: int, kind: str) -> int:
        if self._exact:
            return value
        return next(size for size in getattr(self.buckets, kind) if size >= value)

    def _score(self, rows: int, span: int) -> tuple[tuple[object, ...], partial[None]]:
        work = partial(score, self._model, self._parts[rows], span)
        return ("score", rows, span), work

    def _draw(self, rows: int) -> tuple[tuple[object, ...], partial[None]]:
        return ("draw", rows), partial(draw, self._parts[rows], self._ids, wide=False)

    def _prefill(self, size: int, span: int) -> tuple[tuple[object, ...], partial[None]]:
        work = partial(prefill, self._model, self.state, self._cursor, size, span)
        return ("prefill", size, span), work
