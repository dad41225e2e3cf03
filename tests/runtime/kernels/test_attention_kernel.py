"""Attention in the interpreter, beside float64 and the plain path."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.runtime.kernels import attention as plain
from vivavoce.runtime.kernels import attention_triton as fused
from vivavoce.runtime.kernels.attention import Cache, Heads, Scratch
from vivavoce.runtime.kernels.linear import Norm
from vivavoce.runtime.nn.rope import RopeTable

BF16 = torch.bfloat16
STORED = 80
SPLITS = 8
BLOCK = 16


def heads_of(heads: int, kv_heads: int, size: int, dtype: torch.dtype = BF16) -> Heads:
    q_norm, k_norm = ((1 + torch.randn(size) / 4).to(dtype) for _ in range(2))
    return Heads(heads, kv_heads, size, Norm(q_norm, 1e-6), Norm(k_norm, 1e-6))


def cache_of(
    heads: Heads, positions: list[int], dtype: torch.dtype = BF16, stored: int = STORED
) -> Cache:
    size = (len(positions), heads.kv_heads, stored, heads.size)
    keys, values = torch.randn(size).to(dtype), torch.randn(size).to(dtype)
    return Cache(keys, values, torch.tensor(positions))


def scratch_of(heads: Heads, rows: int, splits: int = SPLITS) -> Scratch:
    return Scratch.build(heads, rows, splits, torch.device("cpu"))


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
    behind = torch.arange(after.keys.shape[2]) > at[:, None, :, None]
    scores = scores.masked_fill(behind, -torch.inf)
    mixed = scores.softmax(-1) @ after.values.double().repeat_interleave(heads.groups, 1)
    return mixed.transpose(1, 2).flatten(2)


def check(qkv: Tensor, heads: Heads, cache: Cache, scratch: Scratch | None = None) -> Tensor:
    rope = RopeTable.build(cache.keys.shape[2], heads.size, 1e6, qkv)
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


@pytest.mark.parametrize("position", [0, 1, 8, 15])
@pytest.mark.parametrize("rows", [1, 3])
def test_the_short_cache_of_a_frame(position: int, rows: int) -> None:
    heads = heads_of(4, 2, 128)
    cache = cache_of(heads, [position] * rows, stored=16)
    check(torch.randn(rows, 1, heads.width).to(BF16), heads, cache)


def test_the_first_two_tokens_together() -> None:
    heads = heads_of(4, 2, 128)
    check(torch.randn(2, 2, heads.width).to(BF16), heads, cache_of(heads, [0, 0], stored=16))


# Parts are whole blocks: of one up to 128 positions, of two up to 256, of three from there on.
EDGES = [0, 1, 15, 16, 17, 127, 128, 129, 159, 160, 161, 255, 256, 287, 288, 289, 299]


@pytest.mark.parametrize(("dtype", "positions"), [(BF16, EDGES), (torch.float32, EDGES[::4])])
def test_a_row_may_stand_at_the_edge_of_a_part(dtype: torch.dtype, positions: list[int]) -> None:
    """One row at each edge, and one on the last position there is."""
    heads, stored = heads_of(2, 1, 32, dtype), EDGES[-1] + 1
    cache = cache_of(heads, positions, dtype, stored)
    scratch = scratch_of(heads, len(positions))
    check(torch.randn(len(positions), 1, heads.width).to(dtype), heads, cache, scratch)
    assert not scratch.arrived.any()


def test_the_scratch_serves_layer_after_layer() -> None:
    heads = heads_of(4, 2, 32)
    scratch = scratch_of(heads, 2)
    for positions in ([70, 3], [17, 79]):
        cache = cache_of(heads, positions)
        check(torch.randn(2, 1, heads.width).to(BF16), heads, cache, scratch)


@pytest.mark.parametrize("splits", [1, 3, 8])
def test_parts_of_new_tokens_on_both_sides_of_an_edge(splits: int) -> None:
    """Three tokens whose places are in two parts, whose first sees nothing of the second part."""
    heads = heads_of(4, 2, 32)
    positions = [14, 30, 126, 254]
    cache = cache_of(heads, positions, stored=270)
    scratch = scratch_of(heads_of(16, 2, 32), len(positions), splits) if splits > 1 else None
    check(torch.randn(len(positions), 3, heads.width).to(BF16), heads, cache, scratch)


def test_parts_of_three_heads_a_group_have_room() -> None:
    """A program's queries are padded to a power of two, and so is what it leaves of them."""
    heads = heads_of(6, 2, 32)
    scratch = scratch_of(heads, 2, 4)
    assert scratch.sums.shape == (2, 2, 4, 4, 32) and scratch.weights.shape == (2, 2, 4, 2, 4)
    check(torch.randn(2, 1, heads.width).to(BF16), heads, cache_of(heads, [40, 63]), scratch)


@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(3, 3, 16), (6, 2, 32), (8, 1, 64)])
def test_other_shapes_of_heads(heads: int, kv_heads: int, size: int) -> None:
    shape = heads_of(heads, kv_heads, size)
    check(torch.randn(2, 3, shape.width).to(BF16), shape, cache_of(shape, [4, 11]))


def test_float32_stays_float32() -> None:
    heads = heads_of(4, 2, 32, torch.float32)
    cache = cache_of(heads, [7, 20], torch.float32)
    rope = RopeTable.build(STORED, 32, 1e6, cache.keys)
    qkv, one, other = torch.randn(2, 1, heads.width), copied(cache), copied(cache)
    wanted = plain.attend(qkv, heads, rope, one)
    assert torch.allclose(fused.attend(qkv, heads, rope, other), wanted, atol=1e-5)
    assert torch.allclose(other.keys, one.keys, atol=1e-6)


def test_an_idle_row_reads_nothing_and_disturbs_nothing() -> None:
    """Idle rows stand on the buffer's last position; what they once had may be anything."""
    heads = heads_of(4, 2, 32)
    cache = replace(cache_of(heads, [70, STORED - 1]), active=torch.tensor([True, False]))
    cache.keys[1, :, : STORED - 1] = torch.nan
    cache.values[1, :, : STORED - 1] = torch.inf
    rope = RopeTable.build(STORED, 32, 1e6, cache.keys)
    scratch = scratch_of(heads, 2)
    qkv, one, other = torch.randn(2, 1, heads.width).to(BF16), copied(cache), copied(cache, scratch)
    wanted = plain.attend(qkv, heads, rope, one)
    got = fused.attend(qkv, heads, rope, other)
    assert torch.allclose(got[0].float(), wanted[0].float(), atol=0.02)
    assert got.isfinite().all() and not scratch.arrived.any()
    assert other.keys[1, :, : STORED - 1].isnan().all()


def test_a_part_of_the_store_that_was_never_written_is_not_read() -> None:
    """Behind a row there may be anything, too."""
    heads = heads_of(4, 2, 32)
    cache = cache_of(heads, [33])
    cache.keys[:, :, 34:], cache.values[:, :, 34:] = torch.nan, torch.inf
    rope, qkv = RopeTable.build(STORED, 32, 1e6, cache.keys), torch.randn(1, 1, heads.width)
    assert (
        fused.attend(qkv.to(BF16), heads, rope, copied(cache, scratch_of(heads, 1)))
        .isfinite()
        .all()
    )


def test_more_new_tokens_than_a_block_are_refused() -> None:
    heads = heads_of(4, 2, 32)
    cache, qkv = cache_of(heads, [0]), torch.randn(1, BLOCK + 1, heads.width).to(BF16)
    with pytest.raises(InputError, match="up to 16 new tokens"):
        fused.attend(qkv, heads, RopeTable.build(STORED, 32, 1e6, cache.keys), cache)
