"""The stack against a plain one that keeps no buffers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vivavoce.runtime.nn.decoder import Decoder, DecoderShape
from vivavoce.runtime.nn.kv import KVBuffer, Placement
from vivavoce.runtime.nn.rope import RopeTable

SHAPE = DecoderShape(
    hidden=24, intermediate=40, layers=2, heads=6, kv_heads=2, head_dim=8, norm_eps=1e-6
)
POSITIONS = 32
THETA = 1e4
ATOL = 1e-6  # angles are in float32


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    torch.manual_seed(0)
    made = Decoder(SHAPE).double()
    for parameter in made.parameters():
        parameter.data = torch.randn_like(parameter) * (0.3 if parameter.dim() > 1 else 1)
    return made.requires_grad_(False)


def buffers(rows: int, like: Tensor) -> tuple[KVBuffer, RopeTable]:
    kv = KVBuffer.zeros(SHAPE.kv_shape(rows, POSITIONS), like)
    return kv, RopeTable.build(POSITIONS, SHAPE.head_dim, THETA, like)


def plain(decoder: Decoder, x: Tensor) -> Tensor:
    """Whole sequences [T, hidden] at once, heads one by one."""
    steps = x.shape[0]
    half = SHAPE.head_dim // 2
    angles = torch.arange(steps)[:, None] / THETA ** (torch.arange(half) / half)
    cos, sin = (turn(angles).repeat(1, 2).to(x) for turn in (torch.cos, torch.sin))

    def turn(v: Tensor) -> Tensor:
        return v * cos + torch.cat((-v[:, half:], v[:, :half]), 1) * sin

    for layer in decoder.layers:
        attention, h = layer.self_attn, layer.input_layernorm(x)
        q, k, v = (
            p(h).view(steps, -1, SHAPE.head_dim)
            for p in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        q, k = attention.q_norm(q), attention.k_norm(k)
        heads = []
        for head in range(SHAPE.heads):
            shared = head // (SHAPE.heads // SHAPE.kv_heads)
            scores = turn(q[:, head]) @ turn(k[:, shared]).T * SHAPE.head_dim**-0.5
            scores = scores.masked_fill(torch.ones(steps, steps).triu(1).bool(), -torch.inf)
            heads.append(scores.softmax(-1) @ v[:, shared])
        x = x + attention.o_proj(torch.cat(heads, -1))
        h = layer.post_attention_layernorm(x)
        mlp = layer.mlp
        x = x + mlp.down_proj(functional.silu(mlp.gate_proj(h)) * mlp.up_proj(h))
    return decoder.norm(x)


def test_a_pass_over_a_whole_sequence(decoder: Decoder) -> None:
    x = torch.randn(2, 9, SHAPE.hidden).double()
    kv, rope = buffers(2, x)
    at = Placement.alike(rope, 0, 9)
    expected = torch.stack([plain(decoder, row) for row in x])
    assert torch.allclose(decoder(x, at, kv), expected, atol=ATOL)


def test_token_by_token_with_rows_at_different_positions(decoder: Decoder) -> None:
    x = torch.randn(2, 12, SHAPE.hidden).double()
    expected = torch.stack([plain(decoder, row) for row in x])
    kv, rope = buffers(2, x)
    for step in range(12):  # row 1 is three tokens behind; it repeats its first one until then
        positions = torch.tensor([[step], [max(step - 3, 0)]])
        tokens = torch.stack((x[0, step], x[1, max(step - 3, 0)]))[:, None]
        out = decoder(tokens, Placement.each(rope, positions, span=POSITIONS), kv)
        assert torch.allclose(out[0, 0], expected[0, step], atol=ATOL)
        assert torch.allclose(out[1, 0], expected[1, max(step - 3, 0)], atol=ATOL)


def test_what_lies_behind_a_row_is_not_seen(decoder: Decoder) -> None:
    x = torch.randn(1, 5, SHAPE.hidden).double()
    kv, rope = buffers(1, x)
    kv.keys.fill_(1e3)
    kv.values.fill_(-1e3)
    at = Placement.each(rope, torch.arange(5)[None], span=POSITIONS)
    assert torch.allclose(decoder(x, at, kv)[0], plain(decoder, x[0]), atol=ATOL)


def test_a_pass_goes_on_behind_another(decoder: Decoder) -> None:
    x = torch.randn(2, 6, SHAPE.hidden).double()
    kv, rope = buffers(2, x)
    cuts = [(0, 3), (3, 5), (5, 6)]
    out = [decoder(x[:, a:b], Placement.alike(rope, a, b), kv) for a, b in cuts]
    expected = torch.stack([plain(decoder, row) for row in x])
    assert torch.allclose(torch.cat(out, 1), expected, atol=ATOL)


def test_a_view_of_rows_writes_into_the_whole(decoder: Decoder) -> None:
    x = torch.randn(1, 4, SHAPE.hidden).double()
    kv, rope = buffers(3, x)
    decoder(x, Placement.alike(rope, 0, 4), kv.rows(1, 2))
    assert kv.keys[:, 1, :, :4].abs().min() > 0
    assert not kv.keys[:, [0, 2]].any()
    assert not kv.values[:, [0, 2]].any()


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, 0.05), (torch.bfloat16, 0.3)]
)
def test_other_dtypes(decoder: Decoder, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(1)
    x = torch.randn(1, 6, SHAPE.hidden).double()
    other = Decoder(SHAPE).to(dtype)
    other.load_state_dict(decoder.state_dict())
    kv, rope = buffers(1, x.to(dtype))
    with torch.no_grad():
        out = other(x.to(dtype), Placement.alike(rope, 0, 6), kv)
    assert out.dtype is dtype
    assert (out[0].double() - plain(decoder, x[0])).abs().max() < tolerance


def test_joined_maps_give_the_same_and_are_held_once(decoder: Decoder) -> None:
    x = torch.randn(2, 5, SHAPE.hidden).double()
    joined = copy.deepcopy(decoder)
    joined.join()
    assert list(joined.state_dict()) == list(decoder.state_dict())
    for whole in (joined, copy.deepcopy(joined).float().double()):
        kv, rope = buffers(2, x)
        out = whole(x, Placement.alike(rope, 0, 5), kv)
        kv, _ = buffers(2, x)
        assert torch.allclose(out, decoder(x, Placement.alike(rope, 0, 5), kv), atol=1e-5)
        attention, mlp = whole.layers[0].self_attn, whole.layers[0].mlp
        for part, whole_weight in ((attention.k_proj, attention.joined), (mlp.up_proj, mlp.joined)):
            held = part.weight.untyped_storage()
            assert held.data_ptr() == whole_weight.untyped_storage().data_ptr()


def test_a_single_vector_is_mapped_as_several_are(decoder: Decoder) -> None:
    x = torch.randn(3, 1, SHAPE.hidden).double()
    several = decoder.layers[0].mlp(x)
    for row in range(3):
        assert torch.allclose(decoder.layers[0].mlp(x[row : row + 1])[0], several[row])
