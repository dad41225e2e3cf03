"""The two ends of a frame, for all rows at once: what comes before its passes through the model,
and what its codes change; plain PyTorch.

Rows that are idle, ended or waiting are masked, not skipped, and the host is asked for nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from vivavoce.runtime.kernels.linear import Norm
from vivavoce.runtime.kernels.sampler import embed_sum
from vivavoce.runtime.nn.weights import Weight

MIN_FRAMES = 2
"""Speech does not end before."""


class Status(enum.IntFlag):
    """What a frame did for a row: bits of ``Standing.status``; 0 for an idle row.

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


class Standing(Protocol):
    """Where B rows stand: contiguous tensors that are read and written in place."""

    @property
    def active(self) -> Tensor:
        """Rows from their admission to their end, bool [B]."""
        ...

    @property
    def primed(self) -> Tensor:
        """Those before their first frame, bool [B]."""
        ...

    @property
    def closed(self) -> Tensor:
        """Those to whose text nothing is added, bool [B]."""
        ...

    @property
    def holding(self) -> Tensor:
        """Those that may not end before their text is used up, bool [B]."""
        ...

    @property
    def positions(self) -> Tensor:
        """Where the next token goes, int64 [B]."""
        ...

    @property
    def frames(self) -> Tensor:
        """Frames spoken, int64 [B]."""
        ...

    @property
    def limit(self) -> Tensor:
        """Frames allowed, int64 [B]."""
        ...

    @property
    def written(self) -> Tensor:
        """Tokens of ``text`` that are there, int64 [B]."""
        ...

    @property
    def cursor(self) -> Tensor:
        """Tokens of ``text`` that are used, int64 [B]."""
        ...

    @property
    def status(self) -> Tensor:
        """What the frame did, ``Status`` bits, int64 [B]."""
        ...

    @property
    def text(self) -> Tensor:
        """Token ids after the prompt, int64 [B, S]."""
        ...

    @property
    def codes(self) -> Tensor:
        """The frame's codes, int64 [B, G]."""
        ...

    @property
    def seen(self) -> Tensor:
        """Codes 0 that were spoken, bool [B, V]."""
        ...

    @property
    def hidden(self) -> Tensor:
        """The talker's last hidden state [B, H]."""
        ...

    @property
    def pending(self) -> Tensor:
        """The sum of the last frame's embeddings [B, H]."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """What a frame does with each row, bool [B]: those that are ``live`` advance, but for those
    that ``failed``; where ``no_end`` is set, speech must not end yet.

    ``pair`` [B, 2, H], where it was asked for, begins with the hidden states and has room for as
    many embeddings of code 0.
    """

    live: Tensor
    failed: Tensor
    no_end: Tensor
    pair: Tensor | None = None


def next_token(rows: Standing, pad: int) -> Tensor:
    """The text token that each row says next, int64 [B]; ``pad`` where it has none."""
    slot = rows.cursor.clamp(max=rows.text.shape[1] - 1)[:, None]
    return torch.where(rows.cursor < rows.written, rows.text.gather(1, slot)[:, 0], pad)


def next_text(rows: Standing, table: Weight, pad: int) -> Tensor:
    """The row of ``table`` [V, K] of each row's next token: [B, K], in the dtype of ``hidden``."""
    token = next_token(rows, pad)
    text = functional.embedding(token, table.data)
    if table.scale is not None:
        text = text.to(table.scale.dtype) * table.scale[token][:, None]
    return text.to(rows.hidden.dtype)


def settle(
    rows: Standing, stepped: Tensor | None, norm: Norm | None = None, pair: Tensor | None = None
) -> Turn:
    """Move on the rows that ``stepped`` [B, H], or the prompt's hidden state, takes further.

    A row whose prompt was just read has a hidden state already; a row without its next text stays.
    ``norm`` is applied to ``stepped`` before anything else. Without it, None, no row steps.
    """
    live = rows.active & rows.primed
    if stepped is not None:
        has_text = rows.cursor < rows.written
        step = rows.active & ~rows.primed & (has_text | rows.closed)
        fresh = stepped if norm is None else norm(stepped)
        rows.hidden.copy_(torch.where(step[:, None], fresh, rows.hidden))
        rows.positions.add_(step)
        rows.cursor.add_(step & has_text)
        live = live | step
    rows.primed.logical_and_(~live)
    if pair is not None:
        pair[:, 0].copy_(rows.hidden)
    failed = live & ~rows.hidden.isfinite().all(-1)
    return Turn(live, failed, _no_end(rows), pair)


def _no_end(rows: Standing) -> Tensor:
    """Where speech must not end yet, bool [B]."""
    used_up = rows.closed & (rows.cursor >= rows.written)
    return (rows.frames < MIN_FRAMES) | (rows.holding & ~used_up)


def finish(rows: Standing, turn: Turn, codes: Tensor, end: int, total: Tensor) -> None:
    """What a frame's ``codes`` [B, G] change; ``total`` [B, H] is the sum of their embeddings."""
    proper = turn.live & ~turn.failed
    ended = proper & (codes[:, 0] == end)
    emitted = proper & ~ended
    rows.pending.copy_(torch.where(emitted[:, None], total, rows.pending))
    _note(rows, codes, emitted)
    limited = emitted & (rows.frames >= rows.limit)
    rows.active.logical_and_(~(ended | turn.failed | limited))
    waiting = rows.active & (rows.cursor >= rows.written) & ~rows.closed
    status = emitted * Status.EMITTED + ended * Status.ENDED + limited * Status.LIMIT
    rows.status.copy_(status + waiting * Status.WAITING + turn.failed * Status.FAILED)


def _note(rows: Standing, codes: Tensor, emitted: Tensor) -> None:
    """Codes [B, G] out (zeros where there are none), and into each row's history."""
    rows.codes.copy_(codes * emitted[:, None])
    every = torch.arange(rows.seen.shape[1], device=codes.device)
    rows.seen.logical_or_((every == codes[:, :1]) & emitted[:, None])
    rows.frames.add_(emitted)


def sum_and_finish(
    rows: Standing, turn: Turn, codes: Tensor, end: int, first: Tensor, others: Tensor
) -> None:
    """``finish`` with the sum of the codes' rows in the tables that ``sampler.embed_sum`` takes."""
    finish(rows, turn, codes, end, embed_sum(codes, first, others))
