# mypy: allow-untyped-decorators
"""The two ends of a frame in three Triton kernels: the next text's embedding, what a step of the
talker changes, and what a frame's codes change.

What a program writes only its own row reads, so that rows need no order. Within a program, what is
about to be overwritten was read by all warps: they wait for each other once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from vivavoce.runtime.kernels.device_math import narrow, times
from vivavoce.runtime.kernels.frame_ends import MIN_FRAMES, Standing, Status, Turn
from vivavoce.runtime.kernels.linear import Norm
from vivavoce.runtime.nn.weights import Weight

_BLOCK = 256
_MIN_FRAMES = tl.constexpr(MIN_FRAMES)
_EMITTED = tl.constexpr(int(Status.EMITTED))
_ENDED = tl.constexpr(int(Status.ENDED))
_LIMIT = tl.constexpr(int(Status.LIMIT))
_WAITING = tl.constexpr(int(Status.WAITING))
_FAILED = tl.constexpr(int(Status.FAILED))


class TextOperands(NamedTuple):
    """What the next text is read from, and where it goes."""

    text: Any
    written: Any
    cursor: Any
    table: Any
    scale: Any
    out: Any


@dataclass(frozen=True)
class TextPlan:
    """``stored``: tokens that a row has room for; ``size``: columns of the table."""

    stored: int
    size: int
    pad: int
    block: int


@triton.jit
def text_kernel(at: tl.tuple, how: tl.constexpr) -> None:
    """A stretch of the embedding of one row's next token."""
    row = tl.program_id(0)
    h = tl.program_id(1) * how.block + tl.arange(0, how.block)
    cursor = tl.load(at.cursor + row)
    token = tl.load(at.text + row * how.stored + tl.minimum(cursor, how.stored - 1))
    token = tl.where(cursor < tl.load(at.written + row), token, how.pad)
    line = tl.load(at.table + token * how.size + h, h < how.size)
    if at.scale is not None:
        wide = line.to(tl.float32) * tl.load(at.scale + token)
        line = narrow(wide, at.out.dtype.element_ty)
    tl.store(at.out + row * how.size + h, line, h < how.size)


class SettleOperands(NamedTuple):
    """What a step changes; ``stepped`` and ``norm`` are None where no row steps."""

    stepped: Any
    norm: Any
    active: Any
    primed: Any
    closed: Any
    holding: Any
    positions: Any
    frames: Any
    written: Any
    cursor: Any
    hidden: Any
    live: Any
    failed: Any
    no_end: Any
    pair: Any


@dataclass(frozen=True)
class SettlePlan:
    """``size`` of a hidden state; ``eps`` of its norm."""

    size: int
    eps: float

    @property
    def block(self) -> int:
        """A hidden state, padded."""
        return int(triton.next_power_of_2(self.size))


@triton.jit
def _normed(at: tl.tuple, row: tl.tensor, k: tl.tensor, how: tl.constexpr) -> tl.tensor:
    """One row of what was stepped, as ``linear.Norm`` has it."""
    x = tl.load(at.stepped + row * how.size + k, k < how.size, other=0.0)
    wide = x.to(tl.float32)
    inverse = tl.rsqrt(tl.sum(wide * wide, 0) / how.size + how.eps)
    weight = tl.load(at.norm + k, k < how.size, other=0.0)
    return times(times(x, inverse, x.dtype), weight, x.dtype)


@triton.jit
def settle_kernel(at: tl.tuple, how: tl.constexpr) -> None:
    """One row: its hidden state, where it stands, and what the frame may do with it."""
    row = tl.program_id(0)
    k = tl.arange(0, how.block)
    inside = k < how.size
    active = tl.load(at.active + row) != 0
    primed = tl.load(at.primed + row) != 0
    closed = tl.load(at.closed + row) != 0
    cursor = tl.load(at.cursor + row)
    written = tl.load(at.written + row)
    position = tl.load(at.positions + row)
    hidden = tl.load(at.hidden + row * how.size + k, inside, other=0.0)
    live = active & primed
    tl.debug_barrier()
    if at.stepped is not None:
        has_text = cursor < written
        step = active & ~primed & (has_text | closed)
        hidden = tl.where(step, _normed(at, row, k, how), hidden)
        live = live | step
        cursor += (step & has_text).to(tl.int64)
        tl.store(at.hidden + row * how.size + k, hidden, inside & step)
        tl.store(at.positions + row, position + step.to(tl.int64))
        tl.store(at.cursor + row, cursor)
    tl.store(at.pair + row * 2 * how.size + k, hidden, inside)
    tl.store(at.primed + row, primed & ~live)
    infinite = ~(tl.abs(hidden.to(tl.float32)) < float("inf"))
    failed = live & (tl.sum(infinite.to(tl.int32), 0) > 0)
    holding = tl.load(at.holding + row) != 0
    used_up = closed & (cursor >= written)
    no_end = (tl.load(at.frames + row) < _MIN_FRAMES) | (holding & ~used_up)
    tl.store(at.live + row, live)
    tl.store(at.failed + row, failed)
    tl.store(at.no_end + row, no_end)


class FinishOperands(NamedTuple):
    """What a frame's codes change, and what says how."""

    frame: Any
    live: Any
    failed: Any
    first: Any
    others: Any
    active: Any
    closed: Any
    frames: Any
    limit: Any
    written: Any
    cursor: Any
    pending: Any
    codes: Any
    seen: Any
    status: Any


@dataclass(frozen=True)
class FinishPlan:
    """``vocabulary`` of code 0 and ``others`` of the rest; ``end``: the code that ends speech."""

    groups: int
    vocabulary: int
    others: int
    hidden: int
    end: int
    block: int

    @property
    def columns(self) -> int:
        """Codes of a frame, padded."""
        return int(triton.next_power_of_2(self.groups))


@triton.jit
def _embedded(at: tl.tuple, row: tl.tensor, h: tl.tensor, how: tl.constexpr) -> tl.tensor:
    """The sum of a frame's embeddings at ``h``, in float32, rounded once."""
    groups: tl.constexpr = how.groups
    inside = h < how.hidden
    code = tl.load(at.frame + row * how.groups)
    total = tl.load(at.first + code * how.hidden + h, inside, other=0.0).to(tl.float32)
    for group in tl.static_range(1, groups):
        code = tl.load(at.frame + row * how.groups + group) + (group - 1) * how.others
        total += tl.load(at.others + code * how.hidden + h, inside, other=0.0).to(tl.float32)
    return narrow(total, at.pending.dtype.element_ty)


@triton.jit
def _note(
    at: tl.tuple, row: tl.tensor, emitted: tl.tensor, ended: tl.tensor, how: tl.constexpr
) -> None:
    """One row: codes out and into its history, and whether it goes on."""
    group = tl.arange(0, how.columns)
    codes = tl.load(at.frame + row * how.groups + group, group < how.groups, other=0)
    codes = tl.where(emitted, codes, 0)
    failed = tl.load(at.failed + row) != 0
    frames = tl.load(at.frames + row) + emitted.to(tl.int64)
    limited = emitted & (frames >= tl.load(at.limit + row))
    active = (tl.load(at.active + row) != 0) & ~(ended | failed | limited)
    no_text = tl.load(at.cursor + row) >= tl.load(at.written + row)
    waiting = active & no_text & (tl.load(at.closed + row) == 0)
    tl.debug_barrier()
    status = emitted.to(tl.int64) * _EMITTED + ended.to(tl.int64) * _ENDED
    status += limited.to(tl.int64) * _LIMIT + waiting.to(tl.int64) * _WAITING
    status += failed.to(tl.int64) * _FAILED
    tl.store(at.codes + row * how.groups + group, codes, group < how.groups)
    tl.store(at.frames + row, frames)
    tl.store(at.active + row, active)
    tl.store(at.status + row, status)
    first = tl.load(at.frame + row * how.groups)
    tl.store(at.seen + row * how.vocabulary + first, emitted, emitted)


@triton.jit
def finish_kernel(at: tl.tuple, how: tl.constexpr) -> None:
    """A stretch of what one row says next; its first program does the rest."""
    row = tl.program_id(0)
    h = tl.program_id(1) * how.block + tl.arange(0, how.block)
    proper = (tl.load(at.live + row) != 0) & (tl.load(at.failed + row) == 0)
    at_end = tl.load(at.frame + row * how.groups) == how.end
    emitted = proper & ~at_end
    total = _embedded(at, row, h, how)
    tl.store(at.pending + row * how.hidden + h, total, (h < how.hidden) & emitted)
    if tl.program_id(1) == 0:
        _note(at, row, emitted, proper & at_end, how)


def next_text(rows: Standing, table: Weight, pad: int) -> Tensor:
    """As ``frame_ends.next_text``."""
    count, stored = rows.text.shape
    size = table.data.shape[1]
    how = TextPlan(stored, size, pad, _block(size))
    out = rows.hidden.new_empty(count, size)
    at = TextOperands(rows.text, rows.written, rows.cursor, table.data, table.scale, out)
    text_kernel[(count, triton.cdiv(size, how.block))](at, how, num_warps=4)
    return out


def settle(
    rows: Standing, stepped: Tensor | None, norm: Norm | None = None, pair: Tensor | None = None
) -> Turn:
    """As ``frame_ends.settle``; ``stepped`` comes with its ``norm``."""
    count, size = rows.hidden.shape
    live, failed, no_end = (torch.empty_like(rows.active) for _ in range(3))
    pair = rows.hidden.new_empty(count, 2, size) if pair is None else pair
    at = SettleOperands(
        stepped,
        None if norm is None or stepped is None else norm.weight,
        *(rows.active, rows.primed, rows.closed, rows.holding),
        *(rows.positions, rows.frames, rows.written, rows.cursor),
        *(rows.hidden, live, failed, no_end, pair),
    )
    how = SettlePlan(size, 0.0 if norm is None else norm.eps)
    settle_kernel[(count,)](at, how, num_warps=4)
    return Turn(live, failed, no_end, pair)


def sum_and_finish(
    rows: Standing, turn: Turn, codes: Tensor, end: int, first: Tensor, others: Tensor
) -> None:
    """As ``frame_ends.sum_and_finish``."""
    (count, groups), hidden = codes.shape, first.shape[1]
    how = FinishPlan(groups, rows.seen.shape[1], others.shape[1], hidden, end, _block(hidden))
    at = FinishOperands(
        *(codes, turn.live, turn.failed, first, others),
        *(rows.active, rows.closed, rows.frames, rows.limit, rows.written, rows.cursor),
        *(rows.pending, rows.codes, rows.seen, rows.status),
    )
    finish_kernel[(count, triton.cdiv(hidden, how.block))](at, how, num_warps=4)


def _block(size: int) -> int:
    """Columns of one program."""
    return min(_BLOCK, int(triton.next_power_of_2(size)))
