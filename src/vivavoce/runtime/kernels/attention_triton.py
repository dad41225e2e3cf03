# mypy: allow-untyped-decorators
"""One layer's attention between its projections, in one Triton kernel.

A program takes one key head of one row, or a part of what that row has: which part follows from
where the row stands, so that the launch is the same for any length. It normalizes and rotates the
queries that share the head and the new keys, once, and stores what is new in its part. Of a row's
parts the last to arrive adds them up, always in the same order. Nothing is exchanged between warps
while positions are read: each position of a block has its own running maximum and sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.runtime.kernels.attention import Cache, Heads
from vivavoce.runtime.kernels.device_math import narrow, times
from vivavoce.runtime.nn.rope import RopeTable

_BLOCK = 16  # with four warps one load of each thread brings a block's half of the keys


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
    active: Any
    sums: Any
    weights: Any
    arrived: Any
    out: Any


@dataclass(frozen=True)
class Plan:
    """Everything about an attention that is known when it is compiled.

    ``stored``: positions of the buffer; ``splits``: programs for one key head of one row.
    """

    heads: int
    kv_heads: int
    size: int
    steps: int
    stored: int
    splits: int
    eps: float
    block: int = _BLOCK

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
    """Halves ``x`` [A, S, D / 2] of vectors at positions [A, S, 1], normalized and rotated.

    It rounds wherever ``layers.rope.rotate`` does: the second product only with the sum.
    """
    like: tl.constexpr = x[0].dtype
    half: tl.constexpr = how.size // 2
    d = tl.arange(0, half)[None, None, :]
    low, high = x[0].to(tl.float32), x[1].to(tl.float32)
    mean = tl.sum(low * low + high * high, 2) / how.size
    inverse = tl.rsqrt(mean + how.eps)[:, :, None]
    low = times(narrow(low * inverse, like), tl.load(norm + d), like)
    high = times(narrow(high * inverse, like), tl.load(norm + half + d), like)
    angle = tl.minimum(position, how.stored - 1) * how.size + d
    cos, sin = tl.load(at.cos + angle), tl.load(at.sin + angle)
    first = times(low, cos, like).to(tl.float32) + high.to(tl.float32) * sin.to(tl.float32)
    cos, sin = tl.load(at.cos + angle + half), tl.load(at.sin + angle + half)
    second = times(high, cos, like).to(tl.float32) + low.to(tl.float32) * sin.to(tl.float32)
    return narrow(first, like), narrow(second, like)


@triton.jit
def _queries(at: tl.tuple, spot: tl.tuple, how: tl.constexpr) -> tl.tuple:
    """The queries of one key head, as two halves [Q, S, D / 2] that are the same for all of S.

    Q counts tokens, then groups.
    """
    row, head, start = spot
    groups: tl.constexpr = how.groups
    block: tl.constexpr = how.block
    half: tl.constexpr = how.size // 2
    q = tl.arange(0, how.queries)[:, None, None] + tl.zeros((1, block, 1), tl.int32)
    token, group = q // groups, q % groups
    line = at.qkv + row * (how.steps * how.width)
    place = token * how.width + (head * groups + group) * how.size
    place = place + tl.arange(0, half)[None, None, :]
    inside = token < how.steps
    low = tl.load(line + place, inside, other=0.0)
    high = tl.load(line + place + half, inside, other=0.0)
    low, high = _turned(at, (low, high), at.q_norm, start + token, how)
    return low.to(tl.float32), high.to(tl.float32)


@triton.jit
def _new_tokens(at: tl.tuple, spot: tl.tuple, how: tl.constexpr) -> tl.tuple:
    """Keys and values of the new tokens, two halves [1, S, D / 2] each: S counts tokens."""
    row, head, start = spot
    half: tl.constexpr = how.size // 2
    token = tl.arange(0, how.block)[None, :, None]
    inside = token < how.steps
    line = at.qkv + row * (how.steps * how.width)
    place = token * how.width + (how.heads + head) * how.size
    place = place + tl.arange(0, half)[None, None, :]
    low = tl.load(line + place, inside, other=0.0)
    high = tl.load(line + place + half, inside, other=0.0)
    low, high = _turned(at, (low, high), at.k_norm, start + token, how)
    place = place + how.kv_heads * how.size
    first = tl.load(line + place, inside, other=0.0)
    second = tl.load(line + place + half, inside, other=0.0)
    return low, high, first, second


@triton.jit
def _store(
    at: tl.tuple, spot: tl.tuple, tile: tl.tuple, s: tl.tensor, own: tl.tensor, how: tl.constexpr
) -> None:
    """Keys and values at positions ``s`` [1, S, 1] go into the buffer where they are ``own``."""
    row, head, _ = spot
    half: tl.constexpr = how.size // 2
    line = (row * how.kv_heads + head) * (how.stored * how.size)
    place = s * how.size + tl.arange(0, half)[None, None, :]
    tl.store(at.key_store + line + place, tile[0], own)
    tl.store(at.key_store + line + place + half, tile[1], own)
    tl.store(at.value_store + line + place, tile[2], own)
    tl.store(at.value_store + line + place + half, tile[3], own)


@triton.jit
def _stored(
    at: tl.tuple, spot: tl.tuple, s: tl.tensor, bound: tl.tensor, how: tl.constexpr
) -> tl.tuple:
    """Keys and values at positions ``s`` [1, S, 1] below ``bound``, in halves; else zeros."""
    row, head, _ = spot
    half: tl.constexpr = how.size // 2
    line = (row * how.kv_heads + head) * (how.stored * how.size)
    place = s * how.size + tl.arange(0, half)[None, None, :]
    there = s < bound
    key_low = tl.load(at.key_store + line + place, there, other=0.0)
    key_high = tl.load(at.key_store + line + place + half, there, other=0.0)
    low = tl.load(at.value_store + line + place, there, other=0.0)
    high = tl.load(at.value_store + line + place + half, there, other=0.0)
    return key_low, key_high, low, high


@triton.jit
def _look(
    so_far: tl.tuple, query: tl.tuple, tile: tl.tuple, seen: tl.tensor, how: tl.constexpr
) -> tl.tuple:
    """The running maximum and sums [Q, S] and values [Q, S, D / 2] of each position of a block.

    ``seen`` bool [Q, S]. Softmax in one pass (Milakov & Gimelshein 2018).
    """
    most, weight, low, high = so_far
    scale: tl.constexpr = how.size**-0.5
    products = query[0] * tile[0].to(tl.float32) + query[1] * tile[1].to(tl.float32)
    score = tl.where(seen, tl.sum(products, 2) * scale, -float("inf"))
    top = tl.maximum(most, score)
    # Where nothing was seen yet there is no largest score.
    finite = tl.where(top == -float("inf"), 0.0, top)
    shrink, share = tl.exp(most - finite), tl.exp(score - finite)
    weight = weight * shrink + share
    shrink, share = shrink[:, :, None], share[:, :, None]
    low = low * shrink + share * tile[2].to(tl.float32)
    high = high * shrink + share * tile[3].to(tl.float32)
    return top, weight, low, high


@triton.jit
def _add_each(a: tl.tensor, b: tl.tensor, c: tl.tensor, d: tl.tensor) -> tl.tuple:
    """Sums of two things at once, which meet once."""
    return a + c, b + d


@triton.jit
def _attend_part(at: tl.tuple, spot: tl.tuple, bounds: tl.tuple, how: tl.constexpr) -> tl.tuple:
    """Over positions within ``bounds``: the largest score, the sum of weights, the sum of values.

    [Q], [Q], two halves [Q, D / 2]. Stores what is new there.
    """
    start = spot[2]
    first, end = bounds
    block: tl.constexpr = how.block
    queries: tl.constexpr = how.queries
    half: tl.constexpr = how.size // 2
    lane = tl.arange(0, block)[None, :, None]
    old = tl.minimum(start, end)
    key_low, key_high, low, high = _stored(at, spot, first + lane, old, how)
    query = _queries(at, spot, how)
    new = _new_tokens(at, spot, how)
    s = start + lane
    _store(at, spot, new, s, (lane < how.steps) & (s >= first) & (s < end), how)
    step = tl.arange(0, block)[None, :]
    s = start + step
    own = (step < how.steps) & (s >= first) & (s < end)
    last = start + tl.arange(0, queries)[:, None] // how.groups
    most = tl.full((queries, block), -float("inf"), tl.float32)
    weight = tl.zeros((queries, block), tl.float32)
    mixed_low = tl.zeros((queries, block, half), tl.float32)
    mixed_high = tl.zeros((queries, block, half), tl.float32)
    most, weight, mixed_low, mixed_high = _look(
        (most, weight, mixed_low, mixed_high), query, new, own & (s <= last), how
    )
    while first < old:
        # The next block is asked for before this one is used.
        next_key_low, next_key_high, next_low, next_high = _stored(
            at, spot, first + block + lane, old, how
        )
        most, weight, mixed_low, mixed_high = _look(
            (most, weight, mixed_low, mixed_high),
            query,
            (key_low, key_high, low, high),
            first + step < old,
            how,
        )
        key_low, key_high, low, high = next_key_low, next_key_high, next_low, next_high
        first += block
    top = tl.max(most, 1)
    share = tl.exp(most - tl.where(top == -float("inf"), 0.0, top)[:, None])
    weight = tl.sum(weight * share, 1)
    share = share[:, :, None]
    mixed_low, mixed_high = tl.reduce((mixed_low * share, mixed_high * share), 1, _add_each)
    return top, weight, mixed_low, mixed_high


@triton.jit
def _outputs(at: tl.tuple, spot: tl.tuple, q: tl.tensor, how: tl.constexpr) -> tl.tuple:
    """Where the outputs of queries ``q`` begin, and whether there are such queries."""
    row, head, _ = spot
    token, group = q // how.groups, q % how.groups
    line = at.out + row * (how.steps * how.heads * how.size)
    place = token * (how.heads * how.size) + (head * how.groups + group) * how.size
    return line + place, token < how.steps


@triton.jit
def _write_part(at: tl.tuple, spot: tl.tuple, part: tl.tuple, how: tl.constexpr) -> None:
    """The outputs, where one part is all there is."""
    _, weight, low, high = part
    like: tl.constexpr = at.out.dtype.element_ty
    half: tl.constexpr = how.size // 2
    place, inside = _outputs(at, spot, tl.arange(0, how.queries)[:, None], how)
    place = place + tl.arange(0, half)[None, :]
    tl.store(place, narrow(low / weight[:, None], like), inside)
    tl.store(place + half, narrow(high / weight[:, None], like), inside)


@triton.jit
def _leave(at: tl.tuple, slot: tl.tensor, part: tl.tuple, how: tl.constexpr) -> None:
    """A part's sums, for whoever adds up."""
    most, weight, low, high = part
    half: tl.constexpr = how.size // 2
    q = tl.arange(0, how.queries)
    tl.store(at.weights + slot * (2 * how.queries) + q, most)
    tl.store(at.weights + slot * (2 * how.queries) + how.queries + q, weight)
    place = slot * (how.queries * how.size) + q[:, None] * how.size + tl.arange(0, half)[None, :]
    tl.store(at.sums + place, low)
    tl.store(at.sums + place + half, high)


@triton.jit
def _add_up(
    at: tl.tuple, spot: tl.tuple, slot: tl.tensor, parts: tl.tensor, how: tl.constexpr
) -> None:
    """The outputs from the first ``parts`` parts of a row's head, in order."""
    queries: tl.constexpr = how.queries
    size: tl.constexpr = how.size
    splits: tl.constexpr = how.splits
    like: tl.constexpr = at.out.dtype.element_ty
    q = tl.arange(0, queries)[:, None]
    d = tl.arange(0, size)[None, :]
    scores = at.weights + slot * (2 * queries) + q
    top = tl.full((queries, 1), -float("inf"), tl.float32)
    for part in tl.static_range(splits):
        other = -float("inf")
        most = tl.load(scores + part * (2 * queries), part < parts, other, cache_modifier=".cg")
        top = tl.maximum(top, most)
    weight = tl.zeros((queries, 1), tl.float32)
    mixed = tl.zeros((queries, size), tl.float32)
    sums = at.sums + slot * (queries * size) + q * size + d
    for part in tl.static_range(splits):
        there = part < parts
        other = -float("inf")
        most = tl.load(scores + part * (2 * queries), there, other, cache_modifier=".cg")
        share = tl.exp(most - top)
        own = tl.load(
            scores + part * (2 * queries) + queries, there, other=0.0, cache_modifier=".cg"
        )
        weight += own * share
        own = tl.load(sums + part * (queries * size), there, other=0.0, cache_modifier=".cg")
        mixed += own * share
    place, inside = _outputs(at, spot, q, how)
    tl.store(place + d, narrow(mixed / weight, like), inside)


@triton.jit
def _part_of(since: tl.tensor, stop: tl.tensor, how: tl.constexpr) -> tl.tuple:
    """The bounds of this program's part of positions, in whole blocks; how many parts there are."""
    blocks = tl.cdiv(stop - since, how.block)
    each = tl.cdiv(blocks, how.splits)
    first = since + tl.program_id(2) * each * how.block
    return first, tl.minimum(first + each * how.block, stop), tl.cdiv(blocks, each)


@triton.jit
def attend_kernel(at: tl.tuple, how: tl.constexpr) -> None:
    """One key head of one row, or a part of its positions; nothing where there is no such part."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    split = tl.program_id(2)
    start = tl.load(at.positions + row).to(tl.int32)
    since = start * 0
    if at.active is not None:
        since = tl.where(tl.load(at.active + row) != 0, since, start)
    first, end, parts = _part_of(since, tl.minimum(start + how.steps, how.stored), how)
    spot = (row, head, start)
    if split < parts:
        part = _attend_part(at, spot, (first, end), how)
        if how.splits == 1:
            _write_part(at, spot, part, how)
        else:
            slot = (row * how.kv_heads + head) * how.splits
            _leave(at, slot + split, part, how)
            # All threads' sums are out before this program counts as arrived.
            tl.debug_barrier()
            place = at.arrived + row * how.kv_heads + head
            if tl.atomic_add(place, 1) == parts - 1:
                _add_up(at, spot, slot, parts, how)
                tl.store(place, 0)


def attend(qkv: Tensor, heads: Heads, rope: RopeTable, cache: Cache) -> Tensor:
    """As ``attention.attend``. Raises InputError for a buffer that is not contiguous."""
    if not (cache.keys.is_contiguous() and cache.values.is_contiguous()):
        raise InputError("A layer's keys and values must be contiguous.", param="cache")
    how = plan(qkv, heads, cache)
    rows, steps = qkv.shape[:2]
    out = qkv.new_empty(rows, steps, heads.heads * heads.size)
    own = cache.scratch
    at = Operands(
        qkv.contiguous(),
        heads.q_norm.weight,
        heads.k_norm.weight,
        rope.cos,
        rope.sin,
        cache.keys,
        cache.values,
        cache.positions.contiguous(),
        cache.active,
        sums=own and own.sums,
        weights=own and own.weights,
        arrived=own and own.arrived,
        out=out,
    )
    attend_kernel[(rows, heads.kv_heads, how.splits)](at, how, num_warps=4)
    return out


def plan(qkv: Tensor, heads: Heads, cache: Cache) -> Plan:
    """How to compute it for these shapes. Raises InputError for more new tokens than a block."""
    if qkv.shape[1] > _BLOCK:
        raise InputError(f"Attention takes up to {_BLOCK} new tokens at once.", param="qkv")
    return Plan(
        heads=heads.heads,
        kv_heads=heads.kv_heads,
        size=heads.size,
        steps=qkv.shape[1],
        stored=cache.keys.shape[2],
        splits=1 if cache.scratch is None else cache.scratch.splits,
        eps=heads.q_norm.eps,
    )
