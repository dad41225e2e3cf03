"""One frame of 80 ms for all rows: step the talker, sample, predict the other codes, sum.

No host synchronization and no shape that depends on data: the same function runs eagerly, compiled,
or captured as one CUDA graph. Rows that are idle, ended or waiting are masked, not skipped.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vivavoce.engines.qwen3.code_predictor import widen
from vivavoce.engines.qwen3.config import CONTROL_CODES, Qwen3Config
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.runtime.nn.sampling import Draw, choose, keyed_draw, penalise

_MIN_FRAMES = 2


class Status(enum.IntFlag):
    """What a frame did for a row: bits of ``RowState.status``; 0 for an idle row.

    EMITTED: ``codes`` hold a frame. ENDED: the end of speech was drawn. LIMIT: this frame was the
    last one allowed. WAITING: the next one needs text. FAILED: numbers that are not finite; scrub
    the row.
    After ENDED, LIMIT or FAILED the row is idle.
    """

    EMITTED = 1
    ENDED = 2
    LIMIT = 4
    WAITING = 8
    FAILED = 16


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
    """The passes of a frame through the model, and the choices between them."""

    def step(self, x: Tensor, rows: RowState) -> Tensor:
        """As ``Talker.step`` at the rows' positions, for those that are active."""
        ...

    def first(self, rows: RowState, no_end: Tensor, end: int) -> Tensor:
        """Code 0 of every row, int64 [B]; ``end`` is none where ``no_end`` bool [B]."""
        ...

    def rest(self, rows: RowState, first: Tensor, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Codes 1 to 15 [B, 15], and the sum of all 16 embeddings [B, H].

        ``first`` [B] is code 0, ``embedded`` [B, H] its embedding.
        """
        ...


@dataclass(frozen=True, slots=True)
class PlainPasses:
    """By the modules themselves; ``span``, ``draw`` and ``most`` as ``frame`` takes them."""

    talker: Talker
    span: int
    draw: Draw
    most: int = 0

    def step(self, x: Tensor, rows: RowState) -> Tensor:
        """Through the talker."""
        return self.talker.step(x, rows.positions, rows.kv, rows.rope, self.span)

    def first(self, rows: RowState, no_end: Tensor, end: int) -> Tensor:
        """Penalty, end ban, suppression, choice."""
        scores = penalise(widen(self.talker.codec_head(rows.hidden)), rows.seen, rows.penalty)
        code = torch.arange(scores.shape[-1], device=scores.device)
        is_end = code == end
        control = (code >= scores.shape[-1] - CONTROL_CODES) & ~is_end
        scores = scores.masked_fill(control | (is_end & no_end[:, None]), -torch.inf)
        return choose(scores, rows.talker_sampler, 0, self.draw, self.most)

    def rest(self, rows: RowState, first: Tensor, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Through the code predictor."""
        rest, others = self.talker.code_predictor.predict(
            rows.hidden, embedded, rows.predictor, rows.code_sampler, self.draw, self.most
        )
        return rest, torch.stack((embedded, *others), 1).sum(1)


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
    live = rows.active & rows.primed
    if step:
        live = live | _step(talker, rows, ids, passes)
    rows.primed.logical_and_(~live)
    failed = live & ~rows.hidden.isfinite().all(-1)
    first = passes.first(rows, _no_end(rows), ids.codec_end)
    rest, total = passes.rest(rows, first, talker.embed_code(first))
    ended = live & ~failed & (first == ids.codec_end)
    emitted = live & ~failed & ~ended
    rows.pending.copy_(torch.where(emitted[:, None], total, rows.pending))
    _note(rows, torch.cat((first[:, None], rest), 1), emitted)
    limited = emitted & (rows.frames >= rows.limit)
    rows.active.logical_and_(~(ended | failed | limited))
    waiting = rows.active & (rows.cursor >= rows.written) & ~rows.closed
    status = emitted * Status.EMITTED + ended * Status.ENDED + limited * Status.LIMIT
    rows.status.copy_(status + waiting * Status.WAITING + failed * Status.FAILED)


def _sizes(talker: Talker) -> list[int]:
    predictor = talker.config.code_predictor
    return [talker.config.vocab_size] + [predictor.vocab_size] * (predictor.num_code_groups - 1)


def _step(talker: Talker, rows: RowState, ids: FrameIds, passes: Passes) -> Tensor:
    """From the frame before to new hidden states, in the rows returned, bool [B].

    A row whose prompt was just read has one already; a row without its next text stays.
    """
    has_text = rows.cursor < rows.written
    step = rows.active & ~rows.primed & (has_text | rows.closed)
    slot = rows.cursor.clamp(max=rows.text.shape[1] - 1)[:, None]
    token = torch.where(has_text, rows.text.gather(1, slot)[:, 0], ids.text_pad)
    x = rows.pending + talker.embed_text(token)
    hidden = passes.step(x, rows)
    rows.hidden.copy_(torch.where(step[:, None], hidden, rows.hidden))
    rows.positions.add_(step)
    rows.cursor.add_(step & has_text)
    return step


def _no_end(rows: RowState) -> Tensor:
    """Where speech must not end yet, bool [B]."""
    used_up = rows.closed & (rows.cursor >= rows.written)
    return (rows.frames < _MIN_FRAMES) | (rows.holding & ~used_up)


def _note(rows: RowState, codes: Tensor, emitted: Tensor) -> None:
    """Codes [B, 16] out (zeros where there are none), and into each row's history."""
    rows.codes.copy_(codes * emitted[:, None])
    every = torch.arange(rows.seen.shape[1], device=codes.device)
    rows.seen.logical_or_((every == codes[:, :1]) & emitted[:, None])
    rows.frames.add_(emitted)
