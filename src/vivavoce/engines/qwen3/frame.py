"""One frame of 80 ms for all rows: step the talker, sample, predict the other codes, sum.

No host synchronization and no shape that depends on data: the same function runs eagerly, compiled,
or captured as one CUDA graph. Rows that are idle, ended or waiting are masked, not skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vivavoce.engines.qwen3.config import CONTROL_CODES, Qwen3Config
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.talker import Talker, widen
from vivavoce.runtime.kernels.frame_ends import Turn, finish, next_token, settle
from vivavoce.runtime.nn.sampling import Draw, choose, keyed_draw, penalise


@dataclass(frozen=True, slots=True)
class FrameIds:
    """The ids a frame knows: the codec's end of speech, and the text's padding."""

    codec_end: int
    text_pad: int

    @classmethod
    def of(cls, config: Qwen3Config) -> FrameIds:
        """The ids of a checkpoint."""
        return cls(config.talker.codec_eos_token_id, config.tts_pad_token_id)


@runtime_checkable
class Passes(Protocol):
    """The two halves of a frame, by which every row that can is advanced."""

    def advance(self, rows: RowState, pad: int, *, step: bool) -> Turn:
        """Step the talker, but without ``step``; rows without text are given the token ``pad``."""
        ...

    def speak(self, rows: RowState, turn: Turn, end: int) -> None:
        """Choose the codes of rows whose turn it is, of which ``end`` ends speech; note them."""
        ...


@dataclass(frozen=True, slots=True)
class PlainPasses:
    """By the modules themselves; ``span``, ``draw`` and ``most`` as ``frame`` takes them."""

    talker: Talker
    span: int
    draw: Draw
    most: int = 0

    def advance(self, rows: RowState, pad: int, *, step: bool) -> Turn:
        """Through the talker."""
        if not step:
            return settle(rows, None)
        x = rows.pending + self.talker.embed_text(next_token(rows, pad))
        return settle(rows, self.talker.step(x, rows.positions, rows.kv, rows.rope, self.span))

    def speak(self, rows: RowState, turn: Turn, end: int) -> None:
        """Through the head and the code predictor."""
        first = self._first(rows, turn.no_end, end)
        embedded = self.talker.embed_code(first)
        rest, others = self.talker.code_predictor.predict(
            rows.hidden, embedded, rows.predictor, rows.code_sampler, self.draw, self.most
        )
        total = torch.stack((embedded, *others), 1).sum(1)
        finish(rows, turn, torch.cat((first[:, None], rest), 1), end, total)

    def _first(self, rows: RowState, no_end: Tensor, end: int) -> Tensor:
        """Code 0 of every row, int64 [B]: penalty, end ban, suppression, choice."""
        scores = penalise(widen(self.talker.codec_head(rows.hidden)), rows.seen, rows.penalty)
        code = torch.arange(scores.shape[-1], device=scores.device)
        is_end = code == end
        control = (code >= scores.shape[-1] - CONTROL_CODES) & ~is_end
        scores = scores.masked_fill(control | (is_end & no_end[:, None]), -torch.inf)
        return choose(scores, rows.talker_sampler, 0, self.draw, self.most)


@torch.no_grad()
def frame(
    talker: Talker,
    rows: RowState,
    ids: FrameIds,
    span: int,
    draw: Draw | Passes | None = None,
    *,
    step: bool = True,
    most: int = 0,
) -> None:
    """Advance every row that can; results in ``rows.codes`` and ``rows.status``.

    ``span``: positions that the modules' attention reads, more than any active row's position.
    ``draw`` replaces the rows' own seeded noise, or the modules by other passes, which draw that
    noise and read of a row what it has. Without
    ``step`` only rows in their first frame advance, which need no talker step; it is the sooner for
    that, and the others stay as they are. ``most`` is a promise about the rows' options that spares
    sorting: see ``sampling.restrict``.
    """
    if isinstance(draw, Passes):
        passes = draw
    else:
        draw = draw or keyed_draw(rows.seeds, rows.frames, _sizes(talker))
        passes = PlainPasses(talker, span, draw, most)
    turn = passes.advance(rows, ids.text_pad, step=step)
    passes.speak(rows, turn, ids.codec_end)


def _sizes(talker: Talker) -> list[int]:
    predictor = talker.config.code_predictor
    return [talker.config.vocab_size] + [predictor.vocab_size] * (predictor.num_code_groups - 1)
