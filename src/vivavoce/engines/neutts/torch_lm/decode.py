"""The work of a step on the device. Every function here can be captured as a graph.

They read and write ``RowState`` alone, never wait for the host, and take no shape from data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vivavoce.engines.neutts.torch_lm.kv import Placement
from vivavoce.engines.neutts.torch_lm.model import SelectedRow, SpeechLm
from vivavoce.engines.neutts.torch_lm.rows import RowState
from vivavoce.engines.neutts.torch_lm.sampler import choose

END = 0
FAULT = -1
"""Drawn by a row whose scores are not finite."""
IDLE = -2
"""Drawn by a row that is not active."""


@dataclass(frozen=True, slots=True)
class SliceCursor:
    """Which part of which row's prompt is next: int64 [1] each, set by the host."""

    row: Tensor
    start: Tensor
    stop: Tensor

    @classmethod
    def build(cls, device: torch.device) -> SliceCursor:
        """At an empty part of row 0."""
        return cls(*(torch.zeros(1, dtype=torch.int64, device=device) for _ in range(3)))

    def set(self, row: int, start: int, stop: int) -> None:
        """Point at prompt positions ``start`` to ``stop`` (not included)."""
        self.row.fill_(row)
        self.start.fill_(start)
        self.stop.fill_(stop)


@torch.no_grad()
def prefill(model: SpeechLm, state: RowState, cursor: SliceCursor, size: int, span: int) -> None:
    """Evaluate the cursor's part, at most ``size`` tokens, into its row's keys and values.

    ``span`` bounds the positions looked at: at least the cursor's ``stop``. What is over in
    ``size`` goes to the idle position.
    """
    steps = torch.arange(size, device=cursor.start.device) + cursor.start
    used = steps < cursor.stop
    ids = state.prompts.index_select(0, cursor.row)
    ids = ids.gather(1, steps.clamp(max=ids.shape[1] - 1)[None])
    positions = torch.where(used, steps, state.idle_position)[None]
    causal = Placement.causal(state.rope, positions, span)
    at = Placement(positions, cursor.row[:, None], causal.cos, causal.sin, causal.mask, span)
    model(ids, at, SelectedRow(state.kv, cursor.row))


@torch.no_grad()
def score(model: SpeechLm, state: RowState, span: int) -> None:
    """Put one token of every row in; its scores of what follows go to ``state.scores``."""
    at = Placement.causal(state.rope, state.positions[:, None], span)
    hidden = model(state.tokens[:, None], at, state.kv)
    state.scores.copy_(model.scores(hidden[:, 0]))


@torch.no_grad()
def draw(state: RowState, ids: Tensor, *, wide: bool) -> None:
    """Choose what follows and make the rows ready for it.

    ``ids`` [C] are the choices' token ids. ``state.drawn`` becomes the choice (0 END, c + 1 for
    code c), ``FAULT`` or ``IDLE``.
    """
    chosen = choose(state.scores, state, wide=wide)
    finite = state.scores.isfinite().all(-1)
    spoken = state.active & finite & (chosen != END)
    state.counts.add_(spoken)
    going = spoken & (state.counts < state.limits)
    told = torch.where(finite, chosen, FAULT)
    state.drawn.copy_(torch.where(state.active, told, IDLE))
    state.tokens.copy_(ids[chosen])
    state.positions.copy_(torch.where(going, state.positions + 1, state.idle_position))
    state.active.copy_(going)
