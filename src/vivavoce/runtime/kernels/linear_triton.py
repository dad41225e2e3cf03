# mypy: allow-untyped-decorators
"""Projections of a few rows in Triton: weights stream through once, dequantized in registers.

One kernel takes every row's sum on its own, so that a row's result does not depend on its company;
the other, for more rows, uses tensor cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from vivavoce.runtime.kernels import linear as plain
from vivavoce.runtime.kernels.device_math import narrow, operand, silu, times
from vivavoce.runtime.kernels.linear import Norm
from vivavoce.runtime.kernels.tiles import Tile, choose_tile
from vivavoce.runtime.nn.streaming import takes
from vivavoce.runtime.nn.weights import Weight

_ALL_REGISTERS = 255


class Operands(NamedTuple):
    """What a projection reads and writes; None where there is none."""

    x: Any
    weight: Any
    scale: Any
    bias: Any
    norm: Any
    residual: Any
    out: Any


@dataclass(frozen=True)
class Plan:
    """Everything about a projection that is known when it is compiled.

    ``stride``: numbers from one row of activations to the next; ``silu``: of what comes out.
    """

    rows: int
    n: int
    k: int
    eps: float
    gated: bool
    tile: Tile
    stride: int
    silu: bool = False

    @property
    def grid(self) -> tuple[int, ...]:
        """One program for each tile of outputs."""
        return (triton.cdiv(self.n, self.tile.block_n),)

    @property
    def registers(self) -> int | None:
        """Registers of a thread at most. ptxas of Triton 3.7 spills to hold more programs, unless
        it is told that it may take all there are.
        """
        return _ALL_REGISTERS if self.rows > 2 and not self.tile.dot else None

    @property
    def rows_padded(self) -> int:
        """The rows of a tensor core's operand."""
        return max(16, int(triton.next_power_of_2(self.rows)))


@triton.jit
def weight_tile(at: tl.tuple, rows: tl.tensor, columns: tl.tensor, how: tl.constexpr) -> tl.tensor:
    """The matrix at ``rows`` and ``columns`` (shapes that broadcast); zeros beyond its edges."""
    total: tl.constexpr = how.n * (2 if how.gated else 1)
    inside = (rows < total) & (columns < how.k)
    return tl.load(at.weight + rows * how.k + columns, inside, other=0.0)


@triton.jit
def _inverse_rms(at: tl.tuple, row: tl.tensor, how: tl.constexpr) -> tl.tensor:
    """1 / the root mean square of one row of activations."""
    size: tl.constexpr = how.k
    padded: tl.constexpr = triton.next_power_of_2(how.k)
    k = tl.arange(0, padded)
    x = tl.load(at.x + row * how.stride + k, k < size, other=0.0).to(tl.float32)
    return tl.rsqrt(tl.sum(x * x, 0) / size + how.eps)


@triton.jit
def _activations(
    at: tl.tuple, row: tl.tensor, k: tl.tensor, inverse: tl.tensor, how: tl.constexpr
) -> tl.tensor:
    """One row at ``k``, normalized where there is a norm, in its own dtype."""
    x = tl.load(at.x + row * how.stride + k, k < how.k, other=0.0)
    if at.norm is not None:
        weight = tl.load(at.norm + k, k < how.k, other=0.0)
        x = times(times(x, inverse, x.dtype), weight, x.dtype)
    return x


@triton.jit
def _finish(at: tl.tuple, total: tl.tensor, n: tl.tensor, how: tl.constexpr) -> tl.tensor:
    """Scale and bias of output channels ``n`` (of a shape that broadcasts), rounded; their SiLU."""
    like: tl.constexpr = at.out.dtype.element_ty
    count: tl.constexpr = how.n * (2 if how.gated else 1)
    if at.scale is not None:
        total = total * tl.load(at.scale + n, n < count, other=0.0)
    if at.bias is not None:
        total = total + tl.load(at.bias + n, n < count, other=0.0).to(tl.float32)
    out = narrow(total, like)
    if how.silu:
        out = silu(out, like)
    return out


@triton.jit
def _store(at: tl.tuple, out: tl.tensor, place: tl.tensor, inside: tl.tensor) -> None:
    """The residual is added to what was rounded, as a separate addition would."""
    like: tl.constexpr = at.out.dtype.element_ty
    if at.residual is not None:
        kept = tl.load(at.residual + place, inside, other=0.0)
        out = narrow(kept.to(tl.float32) + out.to(tl.float32), like)
    tl.store(at.out + place, out, inside)


@triton.jit
def _row_sums(weights: tl.tensor, x: tl.tensor) -> tl.tensor:
    """Sums [BN, 1] of weights [BN, K] times activations [K]."""
    return tl.sum(weights.to(tl.float32) * x[None, :], 1)[:, None]


@triton.jit
def vector_kernel(at: tl.tuple, how: tl.constexpr) -> None:
    """Each row by sums of products; the next weights are asked for before these are used."""
    block_n: tl.constexpr = how.tile.block_n
    step: tl.constexpr = how.tile.block_k * how.tile.parts
    size: tl.constexpr = how.k
    rows: tl.constexpr = how.rows
    columns: tl.constexpr = triton.next_power_of_2(how.rows)
    like: tl.constexpr = at.out.dtype.element_ty
    n = tl.program_id(0) * block_n + tl.arange(0, block_n)
    k = tl.arange(0, step)
    weights = weight_tile(at, n[:, None], k[None, :], how)
    others = weights
    if how.gated:
        others = weight_tile(at, n[:, None] + how.n, k[None, :], how)
    column = tl.arange(0, columns)[None, :]
    total = tl.zeros((block_n, columns), tl.float32)
    second = tl.zeros((block_n, columns), tl.float32)
    for start in tl.static_range(0, size, step):
        next_weights, next_others = weights, others
        if start + step < size:
            next_weights = weight_tile(at, n[:, None], (start + step + k)[None, :], how)
            if how.gated:
                next_others = weight_tile(at, n[:, None] + how.n, (start + step + k)[None, :], how)
        for row in tl.static_range(rows):
            inverse = tl.full((), 1.0, tl.float32)
            if at.norm is not None:
                inverse = _inverse_rms(at, row, how)
            x = _activations(at, row, start + k, inverse, how).to(tl.float32)
            total += tl.where(column == row, _row_sums(weights, x), 0.0)
            if how.gated:
                second += tl.where(column == row, _row_sums(others, x), 0.0)
        weights, others = next_weights, next_others
    out = _finish(at, total, n[:, None], how)
    if how.gated:
        out = times(silu(out, like), _finish(at, second, n[:, None] + how.n, how), like)
    inside = (n < how.n)[:, None] & (column < rows)
    _store(at, out, column * how.n + n[:, None], inside)


@triton.jit
def _inverse_rms_of_all(at: tl.tuple, row: tl.tensor, how: tl.constexpr) -> tl.tensor:
    """1 / the root mean square of each row."""
    block: tl.constexpr = 256
    size: tl.constexpr = how.k
    k = tl.arange(0, block)
    squares = tl.zeros((row.shape[0], block), tl.float32)
    for start in tl.range(0, size, block):
        inside = (row < how.rows)[:, None] & (start + k < size)[None, :]
        x = tl.load(at.x + row[:, None] * how.stride + start + k[None, :], inside, other=0.0)
        squares += x.to(tl.float32) * x.to(tl.float32)
    return tl.rsqrt(tl.sum(squares, 1) / size + how.eps)


@triton.jit
def _activations_in_parts(
    at: tl.tuple, row: tl.tensor, k: tl.tensor, inverse: tl.tensor, how: tl.constexpr
) -> tl.tensor:
    """Activations [parts, R, BK], normalized where there is a norm."""
    rows = row[None, :, None]
    columns = k[:, None, :]
    inside = (rows < how.rows) & (columns < how.k)
    x = tl.load(at.x + rows * how.stride + columns, inside, other=0.0)
    if at.norm is not None:
        weight = tl.load(at.norm + columns, columns < how.k, other=0.0)
        x = times(times(x, inverse[None, :, None], x.dtype), weight, x.dtype)
    return operand(x, at.x.dtype.element_ty)


@triton.jit
def dot_kernel(at: tl.tuple, how: tl.constexpr) -> None:
    """All rows by tensor cores; the parts of K are independent chains of products."""
    block_n: tl.constexpr = how.tile.block_n
    block_k: tl.constexpr = how.tile.block_k
    parts: tl.constexpr = how.tile.parts
    stages: tl.constexpr = how.tile.stages
    rows: tl.constexpr = how.rows_padded
    size: tl.constexpr = how.k
    step: tl.constexpr = how.tile.block_k * how.tile.parts
    like: tl.constexpr = at.out.dtype.element_ty
    n = tl.program_id(0) * block_n + tl.arange(0, block_n)
    row = tl.arange(0, rows)
    k = tl.arange(0, parts)[:, None] * block_k + tl.arange(0, block_k)[None, :]
    inverse = tl.full((rows,), 1.0, tl.float32)
    if at.norm is not None:
        inverse = _inverse_rms_of_all(at, row, how)
    total = tl.zeros((parts, rows, block_n), tl.float32)
    if how.gated:
        second = tl.zeros((parts, rows, block_n), tl.float32)
    for start in tl.range(0, size, step, num_stages=stages):
        x = _activations_in_parts(at, row, start + k, inverse, how)
        columns = (start + k)[:, None, :]
        weights = weight_tile(at, n[None, :, None], columns, how)
        weights = operand(weights, at.x.dtype.element_ty)
        total = tl.dot(x, weights.permute(0, 2, 1), total, input_precision="ieee")
        if how.gated:
            others = weight_tile(at, n[None, :, None] + how.n, columns, how)
            others = operand(others, at.x.dtype.element_ty)
            second = tl.dot(x, others.permute(0, 2, 1), second, input_precision="ieee")
    out = _finish(at, tl.sum(total, 0), n[None, :], how)
    if how.gated:
        up = _finish(at, tl.sum(second, 0), n[None, :] + how.n, how)
        out = times(silu(out, like), up, like)
    inside = (n < how.n)[None, :] & (row < how.rows)[:, None]
    _store(at, out, row[:, None] * how.n + n[None, :], inside)


@triton.jit
def norm_kernel(at: tl.tuple, how: tl.constexpr) -> None:
    """One row, normalized."""
    size: tl.constexpr = how.k
    k = tl.arange(0, triton.next_power_of_2(size))
    row = tl.program_id(0)
    x = _activations(at, row, k, _inverse_rms(at, row, how), how)
    tl.store(at.out + row * size + k, x, k < size)


def linear(
    x: Tensor,
    weight: Weight,
    norm: Norm | None = None,
    residual: Tensor | None = None,
    *,
    silu: bool = False,
) -> Tensor:
    """As ``linear.linear``; more rows than ``streaming.takes`` go there."""
    if not takes(x.shape[0], quantized=weight.scale is not None):
        return plain.linear(x, weight, norm, residual, silu=silu)
    return project(x, weight, norm, residual, plan(x, weight, norm, silu=silu))


def gated(x: Tensor, weight: Weight, norm: Norm | None = None) -> Tensor:
    """As ``linear.gated``; more rows than ``streaming.takes`` go there."""
    if not takes(x.shape[0], quantized=weight.scale is not None):
        return plain.gated(x, weight, norm)
    return project(x, weight, norm, None, plan(x, weight, norm, gated=True))


def normalize(x: Tensor, norm: Norm) -> Tensor:
    """As ``linear.normalize``."""
    rows, size = x.shape
    out = torch.empty_like(x)
    how = Plan(rows, size, size, norm.eps, False, choose_tile(1, size, size, x.itemsize), size)
    at = Operands(x.contiguous(), None, None, None, norm.weight, None, out)
    norm_kernel[(rows,)](at, how, num_warps=4)
    return out


def plan(
    x: Tensor, weight: Weight, norm: Norm | None, *, gated: bool = False, silu: bool = False
) -> Plan:
    """How to compute it for these shapes."""
    rows, (n, k) = x.shape[0], weight.data.shape
    n = n // 2 if gated else n
    eps = norm.eps if norm is not None else 0.0
    tile = choose_tile(rows, n, k, weight.data.itemsize, gated=gated)
    return Plan(rows, n, k, eps, gated, tile, _stride(x), silu)


def _stride(x: Tensor) -> int:
    """From one row to the next; that of rows side by side where there is one, or a copy is due."""
    apart = x.shape[0] > 1 and x.stride(1) == 1
    return x.stride(0) if apart else x.shape[1]


def project(
    x: Tensor, weight: Weight, norm: Norm | None, residual: Tensor | None, how: Plan
) -> Tensor:
    """Launch ``how``. ``x`` [R, K]; all other tensors contiguous."""
    out = torch.empty(how.rows, how.n, dtype=x.dtype, device=x.device)
    scales = None if norm is None else norm.weight
    x = x if x.stride(1) == 1 else x.contiguous()
    at = Operands(x, weight.data, weight.scale, weight.bias, scales, residual, out)
    kernel = dot_kernel if how.tile.dot else vector_kernel
    kernel[how.grid](at, how, num_warps=how.tile.warps, maxnreg=how.registers)
    return out
