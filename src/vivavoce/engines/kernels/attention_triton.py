# mypy: allow-untyped-decorators
"""One layer's attention between its projections, in one Triton kernel.

Each program takes one key head of one row: it normalises and rotates the queries that share it and
the new keys, stores the keys and values, and reads what the row has, no more. Long rows are read in
parts by several programs; the last to arrive adds the parts up, always in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from vivavoce.engines.kernels.attention import Cache, Heads
from vivavoce.engines.kernels.device_math import narrow, times
from vivavoce.engines.layers.rope import RopeTable
from vivavoce.errors import InputError

_BLOCK = 16  # with 32, registers spill


class Operands(NamedTuple):
    """What attention reads and writes; None where there is none."""

    qkv: Any
    q_norm: Any
    k_norm: Any
    cos: Any
    sin: Any
    key_store: Any
    value_store: Any
    positions: Any
    sums: Any
    arrived: Any
    out: Any


@dataclass(frozen=True)
class Plan:
    """Everything about an attention that is known when it is compiled.

    ``stored``: positions of the buffer; ``part``: positions each of ``splits`` programs looks at.
    """

    heads: int
    kv_heads: int
    size: int
    steps: int
    stored: int
    part: int
    splits: int
    block: int
    eps: float
    overlap: bool = False

    @property
    def groups(self) -> int:
        """Query heads of one key head."""
        return self.heads // self.kv_heads

    @property
    def width(self) -> int:
        """Columns of queries, keys and values side by side."""
        return (self.heads + 2 * self.kv_heads) * self.size

    @property
    def queries(self) -> int:
        """Queries of one program, padded."""
        return int(triton.next_power_of_2(self.steps * self.groups))


@triton.jit
def _turned(
    at: tl.tuple, x: tl.tuple, norm: tl.tensor, position: tl.tensor, how: tl.constexpr
) -> tl.tuple:
    """Halves ``x`` [Q, D / 2] of vectors at positions [Q], normalised and rotated.

    It rounds wherever ``layers.rope.rotate`` does: the second product only with the sum.
    """
    like: tl.constexpr = x[0].dtype
    half: tl.constexpr = how.size // 2
    d = tl.arange(0, half)
    low, high = x[0].to(tl.float32), x[1].to(tl.float32)
    mean = (tl.sum(low * low, 1) + tl.sum(high * high, 1)) / how.size
    inverse = tl.rsqrt(mean + how.eps)[:, None]
    low = times(narrow(low * inverse, like), tl.load(norm + d)[None, :], like)
    high = times(narrow(high * inverse, like), tl.load(norm + half + d)[None, :], like)
    angle = position[:, None] * how.size + d[None, :]
    cos, sin = tl.load(at.cos + angle), tl.load(at.sin + angle)
    first = times(low, cos, like).to(tl.float32) + high.to(tl.float32) * sin.to(tl.float32)
    cos, sin = tl.load(at.cos + angle + half), tl.load(at.sin + angle + half)
    second = times(high, cos, like).to(tl.float32) + low.to(tl.float32) * sin.to(tl.float32)
    return narrow(first, like), narrow(second, like)


@triton.jit
def _queries(
    at: tl.tuple, row: tl.tensor, head: tl.tensor, start: tl.tensor, how: tl.constexpr
) -> tl.tuple:
    """The queries [Q, D / 2] of one key head, as two halves; Q counts tokens, then groups."""
    groups: tl.constexpr = how.groups
    half: tl.constexpr = how.size // 2
    q = tl.arange(0, how.queries)
    token, group = q // groups, q % groups
    inside = (token < how.steps)[:, None]
    place = (row * how.steps + token) * how.width + (head * groups + group) * how.size
    d = tl.arange(0, half)[None, :]
    low = tl.load(at.qkv + place[:, None] + d, inside, other=0.0)
    high = tl.load(at.qkv + place[:, None] + half + d, inside, other=0.0)
    position = tl.minimum(start + token, how.stored - 1)
    return _turned(at, (low, high), at.q_norm, position, how)


@triton.jit
def _new_key(
    at: tl.tuple, line: tl.tensor, head: tl.tensor, position: tl.tensor, how: tl.constexpr
) -> tl.tuple:
    """The key of the token at ``line``: two halves [1, D / 2]."""
    half: tl.constexpr = how.size // 2
    d = tl.arange(0, half)[None, :]
    place = at.qkv + line * how.width + (how.heads + head) * how.size
    x = (tl.load(place + d), tl.load(place + half + d))
    position = tl.minimum(position, how.stored - 1) + tl.zeros((1,), tl.int64)
    return _turned(at, x, at.k_norm, position, how)


@triton.jit
def _new_value(at: tl.tuple, line: tl.tensor, head: tl.tensor, how: tl.constexpr) -> tl.tensor:
    """The value [1, D] of the token at ``line``."""
    d = tl.arange(0, how.size)[None, :]
    column = (how.heads + how.kv_heads + head) * how.size
    return tl.load(at.qkv + line * how.width + column + d)


@triton.jit
def store_new(at: tl.tuple, spot: tl.tuple, bounds: tl.tuple, how: tl.constexpr) -> None:
    """Keys and values of the new tokens within ``bounds`` go into the buffer."""
    row, head, start = spot
    half: tl.constexpr = how.size // 2
    d = tl.arange(0, half)[None, :]
    whole = tl.arange(0, how.size)[None, :]
    steps: tl.constexpr = how.steps
    for t in tl.static_range(steps):
        position = start + t
        here = (position >= bounds[0]) & (position < bounds[1])
        low, high = _new_key(at, row * how.steps + t, head, position, how)
        place = ((row * how.kv_heads + head) * how.stored + position) * how.size
        tl.store(at.key_store + place + d, low, here)
        tl.store(at.key_store + place + half + d, high, here)
        tl.store(
            at.value_store + place + whole, _new_value(at, row * how.steps + t, head, how), here
        )


@triton.jit
def _block(
    at: tl.tuple, spot: tl.tuple, s: tl.tensor, end: tl.tensor, how: tl.constexpr
) -> tl.tuple:
    """Keys (two halves) and values at ``s``: what was stored, and the new ones from registers."""
    row, head, start = spot
    half: tl.constexpr = how.size // 2
    place = ((row * how.kv_heads + head) * how.stored + s)[:, None] * how.size
    d = tl.arange(0, half)[None, :]
    old = ((s < start) & (s < end))[:, None]
    low = tl.load(at.key_store + place + d, old, other=0.0)
    high = tl.load(at.key_store + place + half + d, old, other=0.0)
    value = tl.load(at.value_store + place + tl.arange(0, how.size)[None, :], old, other=0.0)
    steps: tl.constexpr = how.steps
    for t in tl.static_range(steps):
        new_low, new_high = _new_key(at, row * how.steps + t, head, start + t, how)
        here = (s == start + t)[:, None]
        low = tl.where(here, new_low, low)
        high = tl.where(here, new_high, high)
        value = tl.where(here, _new_value(at, row * how.steps + t, head, how), value)
    return low.to(tl.float32), high.to(tl.float32), value.to(tl.float32)


@triton.jit
def attend_part(at: tl.tuple, spot: tl.tuple, bounds: tl.tuple, how: tl.constexpr) -> tl.tuple:
    """Over positions within ``bounds``: the largest score, the sum of weights, the sum of values.

    [Q], [Q], [Q, D]; softmax in one pass (Milakov & Gimelshein 2018).
    """
    row, head, start = spot
    queries: tl.constexpr = how.queries
    block: tl.constexpr = how.block
    scale: tl.constexpr = how.size**-0.5
    size: tl.constexpr = how.size
    low, high = _queries(at, row, head, start, how)
    low, high = low.to(tl.float32)[:, None, :], high.to(tl.float32)[:, None, :]
    last = start + tl.arange(0, queries) // how.groups
    most = tl.full((queries,), -float("inf"), tl.float32)
    weight = tl.zeros((queries,), tl.float32)
    mixed = tl.zeros((queries, size), tl.float32)
    first = bounds[0]
    while first < bounds[1]:
        s = first + tl.arange(0, block)
        key_low, key_high, value = _block(at, spot, s, bounds[1], how)
        score = tl.sum(low * key_low[None], 2) + tl.sum(high * key_high[None], 2)
        seen = (s[None, :] <= last[:, None]) & (s < bounds[1])[None, :]
        score = tl.where(seen, score * scale, -float("inf"))
        top = tl.maximum(most, tl.max(score, 1))
        # A query that sees nothing in this block nor before has no largest score yet.
        finite = tl.where(top == -float("inf"), 0.0, top)
        shrink = tl.exp(most - finite)
        share = tl.exp(score - finite[:, None])
        weight = weight * shrink + tl.sum(share, 1)
        mixed = mixed * shrink[:, None] + tl.sum(share[:, :, None] * value[None], 1)
        most = top
        first += block
    return most, weight, mixed


@triton.jit
def write_heads(at: tl.tuple, spot: tl.tuple, mixed: tl.tensor, how: tl.constexpr) -> None:
    """The heads' outputs [Q, D] to their columns."""
    row, head, _ = spot
    q = tl.arange(0, how.queries)
    token, group = q // how.groups, q % how.groups
    column = (head * how.groups + group) * how.size
    place = (row * how.steps + token) * (how.heads * how.size) + column
    d = tl.arange(0, how.size)[None, :]
    inside = (token < how.steps)[:, None]
    tl.store(at.out + place[:, None] + d, narrow(mixed, at.out.dtype.element_ty), inside)


@triton.jit
def _leave(at: tl.tuple, slot: tl.tensor, part: tl.tuple, how: tl.constexpr) -> None:
    """A part's sums, for whoever adds up."""
    most, weight, mixed = part
    line = (slot * how.queries + tl.arange(0, how.queries)) * (how.size + 2)
    d = tl.arange(0, how.size)[None, :]
    tl.store(at.sums + line[:, None] + d, mixed)
    tl.store(at.sums + line + how.size, most)
    tl.store(at.sums + line + how.size + 1, weight)


@triton.jit
def _add_up(at: tl.tuple, slot: tl.tensor, how: tl.constexpr) -> tl.tensor:
    """All parts of a row's head, in order: the outputs [Q, D]."""
    queries: tl.constexpr = how.queries
    size: tl.constexpr = how.size
    most = tl.full((queries,), -float("inf"), tl.float32)
    weight = tl.zeros((queries,), tl.float32)
    mixed = tl.zeros((queries, size), tl.float32)
    d = tl.arange(0, how.size)[None, :]
    for split in tl.range(0, how.splits):
        line = ((slot + split) * queries + tl.arange(0, queries)) * (how.size + 2)
        other = tl.load(at.sums + line + how.size, cache_modifier=".cg")
        top = tl.maximum(most, other)
        finite = tl.where(top == -float("inf"), 0.0, top)
        mine, theirs = tl.exp(most - finite), tl.exp(other - finite)
        weight = weight * mine
        weight += tl.load(at.sums + line + how.size + 1, cache_modifier=".cg") * theirs
        values = tl.load(at.sums + line[:, None] + d, cache_modifier=".cg")
        mixed = mixed * mine[:, None] + values * theirs[:, None]
        most = top
    return mixed / weight[:, None]


@triton.jit
def attend_kernel(at: tl.tuple, how: tl.constexpr) -> None:
    """One key head of one row, or a part of its positions."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    split = tl.program_id(2)
    if how.overlap:
        gdc_launch_dependents()
        gdc_wait()
    start = tl.load(at.positions + row)
    spot = (row, head, start)
    first = (split * how.part).to(tl.int64)
    bounds = (first, tl.minimum(first + how.part, start + how.steps))
    store_new(at, spot, bounds, how)
    most, weight, mixed = attend_part(at, spot, bounds, how)
    if how.splits == 1:
        write_heads(at, spot, mixed / weight[:, None], how)
    else:
        slot = (row * how.kv_heads + head) * how.splits
        _leave(at, slot + split, (most, weight, mixed), how)
        # All threads' sums are out before this program counts as arrived.
        tl.debug_barrier()
        place = at.arrived + row * how.kv_heads + head
        if tl.atomic_add(place, 1) == how.splits - 1:
            write_heads(at, spot, _add_up(at, slot, how), how)
            tl.store(place, 0)


def attend(qkv: Tensor, heads: Heads, rope: RopeTable, cache: Cache) -> Tensor:
    """As ``attention.attend``. Raises InputError for a buffer that is not contiguous."""
    if not (cache.keys.is_contiguous() and cache.values.is_contiguous()):
        raise InputError("A layer's keys and values must be contiguous.", param="cache")
    how = plan(qkv, heads, cache)
    rows, steps = qkv.shape[:2]
    out = qkv.new_empty(rows, steps, heads.heads * heads.size)
    split = how.splits > 1 and cache.scratch is not None
    at = Operands(
        qkv.contiguous(),
        heads.q_norm.weight,
        heads.k_norm.weight,
        rope.cos,
        rope.sin,
        cache.keys,
        cache.values,
        cache.positions.contiguous(),
        cache.scratch.sums if split and cache.scratch else None,
        cache.scratch.arrived if split and cache.scratch else None,
        out,
    )
    grid = (rows, heads.kv_heads, how.splits)
    attend_kernel[grid](at, how, num_warps=4, launch_pdl=how.overlap)
    return out


def plan(qkv: Tensor, heads: Heads, cache: Cache) -> Plan:
    """How to compute it for these shapes."""
    splits = 1 if cache.scratch is None else cache.scratch.sums.shape[2]
    part = triton.cdiv(cache.span, splits)
    return Plan(
        heads=heads.heads,
        kv_heads=heads.kv_heads,
        size=heads.size,
        steps=qkv.shape[1],
        stored=cache.keys.shape[2],
        part=part,
        splits=splits,
        block=block_of(part),
        eps=heads.q_norm.eps,
    )


def block_of(part: int) -> int:
    """Positions that a program reads at a time."""
    return min(_BLOCK, int(triton.next_power_of_2(part)))
