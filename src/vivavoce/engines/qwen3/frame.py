"""One frame of 80 ms for all rows: sample, predict the other codes, sum, and step the talker.

No host synchronisation and no shape that depends on data: the same function runs eagerly, compiled,
or captured as one CUDA graph. Rows that are idle, ended or waiting are masked, not skipped.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import torch
from torch import Tensor

from vivavoce.engines.qwen3.code_predictor import widen
from vivavoce.engines.qwen3.config import CONTROL_CODES, Qwen3Config
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.sampling import Draw, choose, keyed_draw, penalise
from vivavoce.engines.qwen3.talker import Talker

_MIN_FRAMES = 2


class Status(enum.IntFlag):
    """What a frame did for a row: bits of ``RowState.status``; 0 for an idle row.

    EMITTED: ``codes`` hold a frame. ENDED: the end of speech was drawn. LIMIT: this frame was the
    last one allowed. WAITING: it needs text. FAILED: numbers that are not finite; scrub the row.
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


@torch.no_grad()
def frame(
    talker: Talker, rows: RowState, ids: FrameIds, span: int, draw: Draw | None = None
) -> None:
    """Advance every row that can; results in ``rows.codes`` and ``rows.status``.

    ``span``: positions that attention reads, more than any active row's position. ``draw`` replaces
    the rows' own seeded noise.
    """
    draw = draw or keyed_draw(rows.seeds, rows.frames, _sizes(talker))
    fresh = rows.active & ~rows.waiting
    failed = rows.active & ~rows.hidden.isfinite().all(-1)
    first = choose(_first_scores(talker, rows, ids), rows.talker_sampler, 0, draw)
    embedded = talker.embed_code(first)
    rest, others = talker.code_predictor.predict(
        rows.hidden, embedded, rows.predictor, rows.code_sampler, draw
    )
    ended = fresh & ~failed & (first == ids.codec_end)
    emitted = fresh & ~failed & ~ended
    total = torch.stack((embedded, *others), 1).sum(1)
    rows.pending.copy_(torch.where(rows.waiting[:, None], rows.pending, total))
    _note(rows, first, rest, emitted)
    running = rows.active & ~ended & ~failed & (rows.frames < rows.limit)
    status = emitted * Status.EMITTED + ended * Status.ENDED + failed * Status.FAILED
    status += (emitted & ~running) * Status.LIMIT
    waiting = _advance(talker, rows, ids, running, span)
    rows.status.copy_(status + waiting * Status.WAITING)


def _sizes(talker: Talker) -> list[int]:
    predictor = talker.config.code_predictor
    return [talker.config.vocab_size] + [predictor.vocab_size] * (predictor.num_code_groups - 1)


def _first_scores(talker: Talker, rows: RowState, ids: FrameIds) -> Tensor:
    """Scores of code 0 [B, V]: penalty, end ban, suppression."""
    scores = penalise(widen(talker.codec_head(rows.hidden)), rows.seen, rows.penalty)
    used_up = rows.closed & (rows.cursor >= rows.written)
    no_end = (rows.frames < _MIN_FRAMES) | (rows.holding & ~used_up)
    code = torch.arange(scores.shape[-1], device=scores.device)
    is_end = code == ids.codec_end
    control = (code >= scores.shape[-1] - CONTROL_CODES) & ~is_end
    return scores.masked_fill(control | (is_end & no_end[:, None]), -torch.inf)


def _note(rows: RowState, first: Tensor, rest: Tensor, emitted: Tensor) -> None:
    """Codes out (zeros where there are none), and into each row's history."""
    codes = torch.cat((first[:, None], rest), 1)
    rows.codes.copy_(codes * emitted[:, None])
    code = torch.arange(rows.seen.shape[1], device=first.device)
    rows.seen.logical_or_((code == first[:, None]) & emitted[:, None])
    rows.frames.add_(emitted)


def _advance(talker: Talker, rows: RowState, ids: FrameIds, running: Tensor, span: int) -> Tensor:
    """Step the talker of the rows that have their next text; those that wait for it, bool [B]."""
    has_text = rows.cursor < rows.written
    waiting = running & ~has_text & ~rows.closed
    step = running & ~waiting
    slot = rows.cursor.clamp(max=rows.text.shape[1] - 1)[:, None]
    token = torch.where(has_text, rows.text.gather(1, slot)[:, 0], ids.text_pad)
    x = rows.pending + talker.embed_text(token)
    hidden = talker.step(x, rows.positions, rows.kv, rows.rope, span)
    rows.hidden.copy_(torch.where(step[:, None], hidden, rows.hidden))
    rows.positions.add_(step)
    rows.cursor.add_(step & has_text)
    rows.waiting.copy_(waiting)
    rows.active.copy_(running)
    return waiting
