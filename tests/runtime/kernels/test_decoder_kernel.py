"""A whole stack of kernels computes what the modules compute."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vivavoce.runtime.kernels.decoder import FusedDecoder, Place
from vivavoce.runtime.kernels.dispatch import Path, chosen
from vivavoce.runtime.nn.decoder import Decoder, DecoderShape
from vivavoce.runtime.nn.kv import KVBuffer, Placement
from vivavoce.runtime.nn.rope import RopeTable
from vivavoce.runtime.nn.weights import Precision

SHAPE = DecoderShape(
    hidden=32, intermediate=40, layers=2, heads=2, kv_heads=1, head_dim=16, norm_eps=1e-6
)
STORED = 16
CPU = torch.device("cpu")


def decoder_of(dtype: torch.dtype) -> Decoder:
    return Decoder(SHAPE).to(dtype).eval()


def buffers(rows: int, like: Tensor) -> KVBuffer:
    return KVBuffer.zeros(SHAPE.kv_shape(rows, STORED), like)


@torch.no_grad()
@pytest.mark.parametrize(
    ("path", "dtype", "limit"),
    [
        (Path.TORCH, torch.float32, 1e-5),
        (Path.TORCH, torch.bfloat16, 0.02),
        (Path.TRITON, torch.float32, 1e-5),
        pytest.param(Path.TRITON, torch.bfloat16, 0.02, marks=pytest.mark.slow),
    ],
)
def test_a_frame_of_tokens(path: Path, dtype: torch.dtype, limit: float) -> None:
    """Two tokens at once, then one at a time, as the code predictor reads a frame."""
    decoder = decoder_of(dtype)
    fused = FusedDecoder.of(decoder, chosen(CPU, dtype, path), Precision.NONE)
    like = torch.zeros((), dtype=dtype)
    rope, one, other = RopeTable.build(STORED, 16, 1e6, like), buffers(2, like), buffers(2, like)
    position = 0
    for steps in (2, 1):
        x = torch.randn(2, steps, SHAPE.hidden).to(dtype)
        positions = torch.arange(position, position + steps).repeat(2, 1)
        wanted = decoder(x, Placement.each(rope, positions, position + steps), one)
        at = Place(rope, other, positions[:, 0].contiguous())
        flat = fused.step(x, at).flatten(0, 1)
        got = fused.kernels.normalize(flat, fused.norm).view_as(wanted)
        assert float((got - wanted).abs().max() / wanted.abs().max()) < limit
        position += steps


@torch.no_grad()
@pytest.mark.parametrize("path", [Path.TORCH, pytest.param(Path.TRITON, marks=pytest.mark.slow)])
@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_quantized_weights_come_close(path: Path, precision: Precision) -> None:
    decoder = decoder_of(torch.bfloat16)
    kernels = chosen(CPU, torch.bfloat16, path)
    whole = FusedDecoder.of(decoder, kernels, Precision.NONE)
    small = FusedDecoder.of(decoder, kernels, precision)
    like = torch.zeros((), dtype=torch.bfloat16)
    rope, x = RopeTable.build(STORED, 16, 1e6, like), torch.randn(2, 1, SHAPE.hidden).to(like)
    out = [
        each.step(x, Place(rope, buffers(2, like), torch.zeros(2, dtype=torch.int64)))
        for each in (whole, small)
    ]
    assert small.nbytes < 0.6 * whole.nbytes
    cosine = torch.nn.functional.cosine_similarity(out[0].float(), out[1].float(), dim=-1)
    assert float(cosine.min()) > 0.998
