# mypy: allow-untyped-decorators
"""From scores to a code and its embedding in one Triton kernel: one program for each row.

Nothing is sorted: the limits of top-k and top-p are found bit by bit in the scores' order, by
counting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from vivavoce.runtime.kernels.device_math import exponential, natural_log
from vivavoce.runtime.kernels.sampler import Into, Noise, Rules
from vivavoce.runtime.nn.sampling import SamplerRows

_EMBEDDING_BLOCK = 1024


class Operands(NamedTuple):
    """What the sampler reads and writes; None where there is none."""

    scores: Any
    seen: Any
    penalty: Any
    no_end: Any
    greedy: Any
    temperature: Any
    top_k: Any
    tail: Any
    seeds: Any
    counters: Any
    table: Any
    choice: Any
    embedded: Any


@dataclass(frozen=True)
class Plan:
    """Everything about the sampler that is known when it is compiled; ``end`` -1 without rules.

    A row's choice is one of ``columns``; its embedding begins ``stride`` behind that of the row
    before.
    """

    vocabulary: int
    end: int
    first_control: int
    hidden: int
    columns: int
    stride: int

    @property
    def block(self) -> int:
        """Scores of one program, padded."""
        return int(triton.next_power_of_2(self.vocabulary))


@triton.jit
def ruled_scores(at: tl.tuple, row: tl.tensor, code: tl.tensor, how: tl.constexpr) -> tl.tensor:
    """Scores in float32 after the rules of code 0; -inf where excluded."""
    size: tl.constexpr = how.vocabulary
    x = tl.load(at.scores + row * size + code, code < size, other=-float("inf")).to(tl.float32)
    if how.end >= 0:
        penalty = tl.load(at.penalty + row)
        seen = tl.load(at.seen + row * size + code, code < size, other=0) != 0
        x = tl.where(seen, tl.where(x < 0, x * penalty, tl.div_rn(x, penalty)), x)
        is_end = code == how.end
        no_end = tl.load(at.no_end + row) != 0
        banned = ((code >= how.first_control) & ~is_end) | (is_end & no_end)
        x = tl.where(banned, -float("inf"), x)
    return x


@triton.jit
def _ordered(x: tl.tensor) -> tl.tensor:
    """Unsigned numbers in the order of the floats; both zeros are one."""
    bits = tl.where(x == 0, 0.0, x).to(tl.uint32, bitcast=True)
    return tl.where(bits >> 31 != 0, bits ^ 0xFFFFFFFF, bits | 0x80000000)


@triton.jit
def _kth_largest(order: tl.tensor, kept: tl.tensor) -> tl.tensor:
    """The largest bound that ``kept`` numbers reach, two bits at a time."""
    bound = tl.full((), 0, tl.uint32)
    one = tl.full((), 1 << 30, tl.uint32)
    for _ in tl.range(16):
        counts = (order >= (bound | one)).to(tl.int64)
        counts += (order >= (bound | (one * 2))).to(tl.int64) << 16
        counts += (order >= (bound | (one * 3))).to(tl.int64) << 32
        total = tl.sum(counts, 0)
        digit = ((total & 0xFFFF) >= kept).to(tl.uint32)
        digit += ((total >> 16 & 0xFFFF) >= kept).to(tl.uint32)
        digit += ((total >> 32) >= kept).to(tl.uint32)
        bound = bound | (digit * one)
        one = one >> 2
    return bound


@triton.jit
def _within_top_p(x: tl.tensor, order: tl.tensor, code: tl.tensor, tail: tl.tensor) -> tl.tensor:
    """Which scores remain when the least likely, together at most ``tail``, are cut off.

    Equal scores leave in the order of their codes; the last of the largest always stays.
    """
    share = exponential(x - tl.max(x, 0))
    share = share / tl.sum(share, 0)
    bound = tl.full((), 0, tl.uint32)
    below = tl.full((), 0.0, tl.float32)
    one = tl.full((), 1 << 31, tl.uint32)
    for _ in tl.range(32):
        trial = bound | one
        mass = tl.sum(tl.where(order < trial, share, 0.0), 0)
        fits = mass <= tail
        bound = tl.where(fits, trial, bound)
        below = tl.where(fits, mass, below)
        one = one >> 1
    equal = order == bound
    kept = tl.cumsum(tl.where(equal, share, 0.0), 0) + below > tail
    largest = order == tl.max(order, 0)
    last = code == tl.max(tl.where(largest, code, -1), 0)
    return (order > bound) | (equal & kept) | last


@triton.jit
def restricted_scores(
    at: tl.tuple, row: tl.tensor, x: tl.tensor, code: tl.tensor, how: tl.constexpr
) -> tl.tensor:
    """Scores over the temperature, -inf outside of top-k (ties kept) and top-p."""
    x = tl.div_rn(x, tl.load(at.temperature + row))
    order = tl.where(code < how.vocabulary, _ordered(x), 0)
    kept = tl.load(at.top_k + row)
    if (kept > 0) & (kept < how.vocabulary):
        x = tl.where(order >= _kth_largest(order, kept), x, -float("inf"))
    tail = tl.load(at.tail + row)
    if tail > 0:
        order = tl.where(code < how.vocabulary, _ordered(x), 0)
        x = tl.where(_within_top_p(x, order, code, tail), x, -float("inf"))
    return x


@triton.jit
def _mix(x: tl.tensor) -> tl.tensor:
    """``sampling._mix`` on 32 bits that wrap by themselves."""
    x = (x ^ (x >> 16)) * 0x21F0AAAD
    x = (x ^ (x >> 15)) * 0x735A2D97
    return x ^ (x >> 15)


@triton.jit
def row_noise(at: tl.tuple, row: tl.tensor, group: tl.tensor, code: tl.tensor) -> tl.tensor:
    """``sampling.gumbel`` of ``sampling.stream_keys``, for one row and group."""
    low = tl.load(at.seeds + 2 * row).to(tl.uint32)
    high = tl.load(at.seeds + 2 * row + 1).to(tl.uint32)
    counter = tl.load(at.counters + row).to(tl.uint32)
    first = _mix(_mix(low) + counter * 32 + group.to(tl.uint32))
    second = _mix(_mix(high ^ 0x5851F42D) ^ first) ^ _mix(low + 0x2545F491)
    bits = _mix(_mix(code.to(tl.uint32) + first) ^ second)
    uniform = ((bits >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07
    return -natural_log(-natural_log(uniform))


@triton.jit
def choose(at: tl.tuple, row: tl.tensor, group: tl.tensor, how: tl.constexpr) -> tl.tensor:
    """One row: rules, limits, noise, and the choice."""
    block: tl.constexpr = how.block
    code = tl.arange(0, block)
    x = ruled_scores(at, row, code, how)
    if tl.load(at.greedy + row) == 0:
        x = restricted_scores(at, row, x, code, how) + row_noise(at, row, group, code)
    # Where all are excluded or not finite, any code will do but one that is none.
    return tl.minimum(tl.argmax(x, 0), how.vocabulary - 1).to(tl.int64)


@triton.jit
def embed(at: tl.tuple, row: tl.tensor, choice: tl.tensor, how: tl.constexpr) -> None:
    """The choice's row of the table."""
    hidden: tl.constexpr = how.hidden
    h = tl.arange(0, 1024)
    for start in tl.static_range(0, hidden, 1024):
        inside = start + h < how.hidden
        line = tl.load(at.table + choice * how.hidden + start + h, inside)
        tl.store(at.embedded + row * how.stride + start + h, line, inside)


@triton.jit(do_not_specialize=["group"])
def sample_kernel(at: tl.tuple, group: tl.tensor, how: tl.constexpr) -> None:
    """One row: its choice, and the choice's embedding."""
    row = tl.program_id(0)
    choice = choose(at, row, group, how)
    place = row * how.columns
    if how.columns > 1:
        place += group
    tl.store(at.choice + place, choice)
    if at.table is not None:
        embed(at, row, choice, how)


def sample(
    scores: Tensor,
    sampler: SamplerRows,
    noise: Noise,
    group: int,
    rules: Rules | None = None,
    table: Tensor | None = None,
    into: Into | None = None,
) -> tuple[Tensor, Tensor | None]:
    """As ``sampler.sample``."""
    rows, vocabulary = scores.shape
    hidden = 0 if table is None else table.shape[1]
    codes = scores.new_empty(rows, 1, dtype=torch.int64) if into is None else into.codes
    embedded = None if into is None else into.embedded
    if embedded is None and table is not None:
        embedded = table.new_empty(rows, hidden)
    how = Plan(
        vocabulary,
        -1 if rules is None else rules.end,
        vocabulary if rules is None else rules.first_control,
        hidden,
        codes.shape[1],
        0 if embedded is None else embedded.stride(0),
    )
    at = Operands(
        scores.contiguous(),
        None if rules is None else rules.seen,
        None if rules is None else rules.penalty,
        None if rules is None else rules.no_end,
        sampler.greedy,
        sampler.temperature,
        sampler.top_k,
        sampler.tail,
        noise.seeds,
        noise.counters,
        table,
        codes,
        embedded,
    )
    sample_kernel[(rows,)](at, group, how, num_warps=4)
    return codes[:, 0 if into is None else group], embedded
