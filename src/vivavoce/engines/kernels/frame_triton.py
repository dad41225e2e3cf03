# mypy: allow-untyped-decorators
"""A code predictor's frame in one launch: all of its tokens, with a barrier between the phases.

As many programs as run at once take the tiles of each matrix in turn. A phase asks for its first
weights before it waits for the phase before it, so that memory is never idle; the arithmetic is
that of the kernels which do one phase each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import triton
import triton.language as tl

from vivavoce.engines.kernels import attention_triton, linear_triton, sampler_triton
from vivavoce.engines.kernels.attention_triton import attend_part, store_new, write_heads
from vivavoce.engines.kernels.grid_barrier import arrive, leave, wait
from vivavoce.engines.kernels.linear_triton import tile_columns, vector_tile, weight_tile
from vivavoce.engines.kernels.sampler_triton import choose, embed


class Work(NamedTuple):
    """What a matrix is for; None where there is none."""

    x: Any
    norm: Any
    residual: Any
    out: Any


class FrameOperands(NamedTuple):
    """What a frame reads and writes.

    ``layers`` int64 [L, 12], ``heads`` [T - 1, 2] and ``tables`` [T - 1] hold addresses, of the
    types of ``weight``, ``scale`` and ``norm``. ``x`` [T + 1, B, H] holds the first two tokens,
    ``codes`` [B, T] the first code; ``barrier`` is a ``grid_barrier``.
    """

    layers: Any
    heads: Any
    tables: Any
    weight: Any
    scale: Any
    norm: Any
    x: Any
    qkv: Any
    mixed: Any
    gated: Any
    scores: Any
    key_store: Any
    value_store: Any
    cos: Any
    sin: Any
    greedy: Any
    temperature: Any
    top_k: Any
    tail: Any
    seeds: Any
    counters: Any
    codes: Any
    barrier: Any


@dataclass(frozen=True)
class FramePlan:
    """Everything about a frame that is known when it is compiled.

    ``tokens`` T; ``stride`` elements from one layer's keys to the next one's.
    """

    tokens: int
    layers: int
    stride: int
    qkv: linear_triton.Plan
    out: linear_triton.Plan
    gate: linear_triton.Plan
    down: linear_triton.Plan
    head: linear_triton.Plan
    attention: attention_triton.Plan
    sampler: sampler_triton.Plan


@triton.jit
def _address(table: tl.tensor, place: tl.tensor, like: tl.tensor) -> tl.tensor:
    """A pointer of the type of ``like``, aligned as PyTorch's memory is."""
    return tl.multiple_of(tl.load(table + place).to(like.dtype), 16)


@triton.jit
def _tile_outputs(tile: tl.tensor, how: tl.constexpr) -> tl.tensor:
    """The outputs of a tile; behind the last tile such as no matrix has, for which none is read."""
    block: tl.constexpr = how.tile.block_n
    n = tile * block + tl.arange(0, block)
    return tl.where(tile * block < how.n, n, 2 * how.n)


@triton.jit
def _take_tiles(at: tl.tuple, barrier: tl.tensor, arrivals: tl.tensor, how: tl.constexpr) -> None:
    """This program's tiles of a matrix, the first of which is asked for before it waits."""
    block: tl.constexpr = how.tile.block_n
    tile = tl.program_id(0)
    n = _tile_outputs(tile, how)
    k = tile_columns(how)[None, :]
    weights = weight_tile(at, n[:, None], k, how)
    others = weights
    if how.gated:
        others = weight_tile(at, n[:, None] + how.n, k, how)
    wait(barrier, arrivals)
    while tile * block < how.n:
        vector_tile(at, n, weights, others, how)
        tile += tl.num_programs(0)
        n = _tile_outputs(tile, how)
        weights = weight_tile(at, n[:, None], k, how)
        if how.gated:
            others = weight_tile(at, n[:, None] + how.n, k, how)


@triton.jit
def _project(
    at: tl.tuple, work: tl.tuple, place: tl.tuple, arrivals: tl.tensor, how: tl.constexpr
) -> tl.tensor:
    """A phase: the matrix whose address, and behind it that of its scales, is at ``place``."""
    table, number = place
    weight = _address(table, number, at.weight)
    if at.scale is not None:
        scale = _address(table, number + 1, at.scale)
        given = linear_triton.Operands(
            work.x, weight, scale, None, work.norm, work.residual, work.out
        )
        _take_tiles(given, at.barrier, arrivals, how)
    else:
        given = linear_triton.Operands(
            work.x, weight, None, None, work.norm, work.residual, work.out
        )
        _take_tiles(given, at.barrier, arrivals, how)
    arrive(at.barrier)
    return arrivals + tl.num_programs(0)


@triton.jit
def _attend(
    at: tl.tuple, token: tl.tensor, barrier: tl.tensor, arrivals: tl.tensor, how: tl.constexpr
) -> tl.tensor:
    """A phase: one key head of one row a program."""
    plan: tl.constexpr = how.attention
    heads: tl.constexpr = how.qkv.rows * how.attention.kv_heads
    wait(barrier, arrivals)
    place = tl.program_id(0)
    start = token.to(tl.int64)
    bounds = (start * 0, start + 1)
    while place < heads:
        spot = ((place // plan.kv_heads).to(tl.int64), place % plan.kv_heads, start)
        store_new(at, spot, bounds, plan)
        _, weight, mixed = attend_part(at, spot, bounds, plan)
        write_heads(at, spot, mixed / weight[:, None], plan)
        place += tl.num_programs(0)
    arrive(barrier)
    return arrivals + tl.num_programs(0)


@triton.jit
def _sample(
    at: tl.tuple, token: tl.tensor, barrier: tl.tensor, arrivals: tl.tensor, how: tl.constexpr
) -> tl.tensor:
    """A phase, one row a program: the code with the number ``token``, and its row of a table."""
    plan: tl.constexpr = how.sampler
    wait(barrier, arrivals)
    row = tl.program_id(0)
    while row < how.head.rows:
        choice = choose(at, row, token, plan)
        tl.store(at.choice + row * how.tokens, choice)
        embed(at, row, choice, plan)
        row += tl.num_programs(0)
    arrive(barrier)
    return arrivals + tl.num_programs(0)


@triton.jit
def _layer(
    at: tl.tuple, token: tl.tensor, layer: tl.tensor, arrivals: tl.tensor, how: tl.constexpr
) -> tl.tensor:
    """Five phases. A layer's addresses: four matrices with their scales, four norms."""
    qkv: tl.constexpr = how.qkv
    out: tl.constexpr = how.out
    gate: tl.constexpr = how.gate
    down: tl.constexpr = how.down
    x = at.x + token * (qkv.rows * qkv.k)
    first = layer * 12
    work = Work(x, _address(at.layers, first + 8, at.norm), None, at.qkv)
    arrivals = _project(at, work, (at.layers, first), arrivals, qkv)
    heads = attention_triton.Operands(
        at.qkv,
        _address(at.layers, first + 9, at.norm),
        _address(at.layers, first + 10, at.norm),
        at.cos,
        at.sin,
        at.key_store + layer * how.stride,
        at.value_store + layer * how.stride,
        None,
        None,
        None,
        at.mixed,
    )
    arrivals = _attend(heads, token, at.barrier, arrivals, how)
    work = Work(at.mixed, None, x, x)
    arrivals = _project(at, work, (at.layers, first + 2), arrivals, out)
    work = Work(x, _address(at.layers, first + 11, at.norm), None, at.gated)
    arrivals = _project(at, work, (at.layers, first + 4), arrivals, gate)
    work = Work(at.gated, None, x, x)
    return _project(at, work, (at.layers, first + 6), arrivals, down)


@triton.jit
def _code(at: tl.tuple, token: tl.tensor, arrivals: tl.tensor, how: tl.constexpr) -> tl.tensor:
    """Two phases: the scores of the code with the number ``token``, and its choice."""
    head: tl.constexpr = how.head
    size: tl.constexpr = how.head.rows * how.head.k
    x = at.x + token * size
    work = Work(x, at.norm, None, at.scores)
    arrivals = _project(at, work, (at.heads, 2 * token - 2), arrivals, head)
    chosen = sampler_triton.Operands(
        at.scores,
        None,
        None,
        None,
        at.greedy,
        at.temperature,
        at.top_k,
        at.tail,
        at.seeds,
        at.counters,
        _address(at.tables, token - 1, at.norm),
        at.codes + token,
        x + size,
    )
    return _sample(chosen, token, at.barrier, arrivals, how)


@triton.jit
def frame_kernel(at: tl.tuple, how: tl.constexpr) -> None:
    """A token after the other; from the second on each gives a code, which is the next one."""
    none = tl.num_programs(0) * 0
    arrivals = none
    for number in tl.range(0, how.tokens):
        token = none + number  # a number of Triton's in its interpreter, too
        for layer in tl.range(0, how.layers):
            arrivals = _layer(at, token, none + layer, arrivals, how)
        if token > 0:
            arrivals = _code(at, token, arrivals, how)
    leave(at.barrier)
