"""Decoder layers of packed int8 matrices against the modules that they stand for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from vivavoce.runtime.nn import int8_cpu
from vivavoce.runtime.nn.decoder import Decoder, DecoderShape
from vivavoce.runtime.nn.int8_decoder import Int8DecoderLayer, shorten
from vivavoce.runtime.nn.kv import KVBuffer, Placement
from vivavoce.runtime.nn.linear import quantized_bytes
from vivavoce.runtime.nn.quantize import quantize_linears
from vivavoce.runtime.nn.rope import RopeTable
from vivavoce.runtime.nn.weights import Precision

SHAPE = DecoderShape(
    hidden=64, intermediate=96, layers=2, heads=4, kv_heads=2, head_dim=32, norm_eps=1e-6
)
STORED = 24
pytestmark = [
    pytest.mark.skipif(not int8_cpu.available(), reason="no exact int8 kernels here"),
]


@pytest.fixture(scope="module")
def decoders() -> tuple[Decoder, Decoder]:
    """The same packed matrices below the modules and below the short layers."""
    torch.manual_seed(3)
    decoder = Decoder(SHAPE).eval().requires_grad_(False)
    for name, parameter in decoder.named_parameters():
        if "norm" in name:
            parameter.copy_(1 + torch.randn_like(parameter) / 4)
    quantize_linears(decoder, Precision.INT8)
    decoder.join()
    for layer in decoder.layers:
        layer.self_attn.o_proj.prepare()
        layer.mlp.down_proj.prepare()
    short = copy.copy(decoder)
    short._modules = dict(decoder._modules)
    short.layers = torch.nn.ModuleList(decoder.layers)
    assert shorten(short)
    assert all(isinstance(layer, Int8DecoderLayer) for layer in short.layers)
    return decoder, short


def rope() -> RopeTable:
    return RopeTable.build(STORED, SHAPE.head_dim, 1e6, torch.zeros(()))


def spoken(decoder: Decoder, x: Tensor, prompt: int) -> Tensor:
    """A prompt [B, prompt, hidden], then one position at a time."""
    kv = KVBuffer.zeros(SHAPE.kv_shape(len(x), STORED), x)
    table = rope()
    parts = [decoder(x[:, :prompt], Placement.alike(table, 0, prompt), kv)]
    for at in range(prompt, x.shape[1]):
        positions = torch.full((len(x), 1), at)
        parts.append(decoder(x[:, at : at + 1], Placement.each(table, positions, STORED), kv))
    return torch.cat(parts, 1)


@torch.no_grad()
def test_they_compute_what_the_modules_compute(decoders: tuple[Decoder, Decoder]) -> None:
    x = torch.randn(3, 9, SHAPE.hidden, generator=torch.Generator().manual_seed(1))
    long, short = (spoken(each, x, 5) for each in decoders)
    # An activation that is rounded the other way is off by 1/254 of 1/127 of its row's largest.
    assert (long - short).abs().max() < 1e-3 * long.abs().max()


@torch.no_grad()
def test_a_row_has_the_same_bits_in_any_company(decoders: tuple[Decoder, Decoder]) -> None:
    x = torch.randn(4, 6, SHAPE.hidden) * torch.tensor([1e-2, 1.0, 30.0, 1e3])[:, None, None]
    together = spoken(decoders[1], x, 3)
    alone = torch.cat([spoken(decoders[1], row[None], 3) for row in x])
    assert together.equal(alone)


@torch.no_grad()
def test_idle_rows_of_zeros_stay_finite(decoders: tuple[Decoder, Decoder]) -> None:
    x = torch.zeros(2, 3, SHAPE.hidden)
    x[1] = 1
    assert spoken(decoders[1], x, 2).isfinite().all()


def test_nothing_is_held_twice(decoders: tuple[Decoder, Decoder]) -> None:
    long, short = decoders
    assert quantized_bytes(short) == quantized_bytes(long) > 0
    assert not [name for name in short.state_dict() if name.startswith("layers.")]


def test_other_layers_are_left_alone() -> None:
    decoder = Decoder(SHAPE)
    decoder.join()
    assert not shorten(decoder)
    assert not any(isinstance(layer, Int8DecoderLayer) for layer in decoder.layers)
