"""Attention in the interpreter, beside float64 and the plain path."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vivavoce.engines.kernels import attention as plain
from vivavoce.engines.kernels import attention_triton as fused
from vivavoce.engines.kernels.attention import Cache, Heads, Scratch
from vivavoce.engines.kernels.linear import Norm
from vivavoce.engines.layers.rope import RopeTable

BF16 = torch.bfloat16
STORED = 80


def heads_of(heads: int, kv_heads: int, size: int, dtype: torch.dtype = BF16) -> Heads:
    q_norm, k_norm = ((1 + torch.randn(size) / 4).to(dtype) for _ in range(2))
    return Heads(heads, kv_heads, size, Norm(q_norm, 1e-6), Norm(k_norm, 1e-6))


def cache_of(heads: Heads, positions: list[int], span: int, dtype: torch.dtype = BF16) -> Cache:
    size = (len(positions), heads.kv_heads, STORED, heads.size)
    keys, values = torch.randn(size).to(dtype), torch.randn(size).to(dtype)
    return Cache(keys, values, torch.tensor(positions), span)


def copied(cache: Cache, scratch: Scratch | None = None) -> Cache:
    return replace(cache, keys=cache.keys.clone(), values=cache.values.clone(), scratch=scratch)


def exact(qkv: Tensor, heads: Heads, rope: RopeTable, after: Cache) -> Tensor:
    """From the keys and values as the plain path stored them, the rest in float64."""
    rows, steps = qkv.shape[:2]
    query = qkv[..., : heads.heads * heads.size].view(rows, steps, heads.heads, heads.size)
    at = after.positions[:, None] + torch.arange(steps)
    cos, sin = rope.at(at)
    query = plain.rotate(heads.q_norm(query.transpose(1, 2)), cos, sin).double()
    keys = after.keys.double().repeat_interleave(heads.groups, 1)
    scores = query @ keys.transpose(2, 3) * heads.size**-0.5
    scores = scores.masked_fill(torch.arange(STORED) > at[:, None, :, None], -torch.inf)
    mixed = scores.softmax(-1) @ after.values.double().repeat_interleave(heads.groups, 1)
    return mixed.transpose(1, 2).flatten(2)


def check(qkv: Tensor, heads: Heads, cache: Cache, scratch: Scratch | None = None) -> Tensor:
    rope = RopeTable.build(STORED, heads.size, 1e6, qkv)
    one, other = copied(cache), copied(cache, scratch)
    wanted = plain.attend(qkv, heads, rope, one)
    got = fused.attend(qkv, heads, rope, other)
    limit = 4 * torch.finfo(qkv.dtype).eps
    truth = exact(qkv, heads, rope, one)
    assert float((got.double() - truth).abs().max() / truth.abs().max()) < limit
    assert float((wanted.double() - truth).abs().max() / truth.abs().max()) < 2 * limit
    assert torch.allclose(other.keys.double(), one.keys.double(), rtol=2**-7, atol=2**-7)
    assert torch.equal(other.values, one.values)
    return got


@pytest.mark.parametrize("span", [2, 3, 9, 16, 17])
@pytest.mark.parametrize("rows", [1, 3])
def test_the_short_cache_of_a_frame(span: int, rows: int) -> None:
    heads = heads_of(4, 2, 128)
    cache = cache_of(heads, [span - 1] * rows, span)
    check(torch.randn(rows, 1, heads.width).to(BF16), heads, cache)


def test_the_first_two_tokens_together() -> None:
    heads = heads_of(4, 2, 128)
    check(torch.randn(2, 2, heads.width).to(BF16), heads, cache_of(heads, [0, 0], 2))


@pytest.mark.parametrize(
    "positions", [[0, 40, 63], pytest.param([31, 32, 5], marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("splits", [1, 4])
def test_rows_of_different_lengths(positions: list[int], splits: int) -> None:
    heads = heads_of(4, 2, 64)
    cache = cache_of(heads, positions, 64)
    scratch = Scratch.build(heads, 3, splits, torch.device("cpu")) if splits > 1 else None
    qkv = torch.randn(3, 1, heads.width).to(BF16)
    check(qkv, heads, cache, scratch)
    if scratch is not None:
        assert not scratch.arrived.any()
        check(qkv, heads, cache, scratch)  # it can be used again


def test_parts_of_three_heads_a_group_have_room() -> None:
    """A program's queries are padded to a power of two, and so is what it leaves of them."""
    heads = heads_of(6, 2, 32)
    scratch = Scratch.build(heads, 2, 4, torch.device("cpu"))
    assert scratch.sums.shape == (2, 2, 4, 4, 34)
    cache = cache_of(heads, [40, 63], 64)
    check(torch.randn(2, 1, heads.width).to(BF16), heads, cache, scratch)


@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(3, 3, 16), (6, 2, 32), (8, 1, 64)])
def test_other_shapes_of_heads(heads: int, kv_heads: int, size: int) -> None:
    shape = heads_of(heads, kv_heads, size)
    check(torch.randn(2, 3, shape.width).to(BF16), shape, cache_of(shape, [4, 11], 14))


def test_float32_stays_float32() -> None:
    heads = heads_of(4, 2, 32, torch.float32)
    cache = cache_of(heads, [7, 20], 21, torch.float32)
    rope = RopeTable.build(STORED, 32, 1e6, cache.keys)
    qkv, one, other = torch.randn(2, 1, heads.width), copied(cache), copied(cache)
    wanted = plain.attend(qkv, heads, rope, one)
    assert torch.allclose(fused.attend(qkv, heads, rope, other), wanted, atol=1e-5)
    assert torch.allclose(other.keys, one.keys, atol=1e-6)


def test_an_idle_row_disturbs_nothing() -> None:
    """Idle rows stand on the buffer's last position, behind the span."""
    heads = heads_of(4, 2, 32)
    cache = cache_of(heads, [9, STORED - 1], 16)
    rope = RopeTable.build(STORED, 32, 1e6, cache.keys)
    qkv, one, other = torch.randn(2, 1, heads.width).to(BF16), copied(cache), copied(cache)
    wanted = plain.attend(qkv, heads, rope, one)
    got = fused.attend(qkv, heads, rope, other)
    assert torch.allclose(got[0].float(), wanted[0].float(), atol=0.02)
    assert got.isfinite().all()
    assert torch.equal(other.keys[1, :, :16], cache.keys[1, :, :16])
