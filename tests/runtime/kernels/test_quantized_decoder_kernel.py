"""A stack of kernels over weights that were quantized while they were loaded."""

from __future__ import annotations

import pytest
import torch

from vivavoce.errors import InputError
from vivavoce.runtime.kernels.decoder import FusedDecoder, Place
from vivavoce.runtime.kernels.dispatch import Path, chosen
from vivavoce.runtime.nn import int8_cpu
from vivavoce.runtime.nn.decoder import Decoder, DecoderShape
from vivavoce.runtime.nn.kv import KVBuffer, Placement
from vivavoce.runtime.nn.quantize import WeightOnly, quantize_linears
from vivavoce.runtime.nn.rope import RopeTable
from vivavoce.runtime.nn.weights import Precision

SHAPE = DecoderShape(
    hidden=32, intermediate=48, layers=1, heads=4, kv_heads=2, head_dim=16, norm_eps=1e-6
)
STORED = 8
CPU = torch.device("cpu")


def quantized(precision: Precision, dtype: torch.dtype, *, join: bool = True) -> Decoder:
    decoder = Decoder(SHAPE).to(dtype).eval()
    quantize_linears(decoder, precision)
    if join:
        decoder.join()
    return decoder


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """int8 is not packed for the CPU."""
    monkeypatch.setattr(int8_cpu, "available", lambda: False)


@torch.no_grad()
@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(
    ("path", "precision", "dtype", "limit"),
    [
        (Path.TORCH, Precision.INT8, torch.float32, 1e-5),
        (Path.TORCH, Precision.FP8, torch.bfloat16, 0.02),
        (Path.TRITON, Precision.INT8, torch.float32, 1e-5),
        pytest.param(Path.TRITON, Precision.FP8, torch.bfloat16, 0.02, marks=pytest.mark.slow),
    ],
)
def test_the_kernels_compute_what_the_modules_compute(
    path: Path, precision: Precision, dtype: torch.dtype, limit: float
) -> None:
    decoder = quantized(precision, dtype)
    fused = FusedDecoder.of(decoder, chosen(CPU, dtype, path), Precision.NONE)
    like = torch.zeros((), dtype=dtype)
    rope = RopeTable.build(STORED, SHAPE.head_dim, 1e6, like)
    one, other = (KVBuffer.zeros(SHAPE.kv_shape(2, STORED), like) for _ in range(2))
    position = 0
    for steps in (2, 1):
        x = torch.randn(2, steps, SHAPE.hidden).to(dtype)
        positions = torch.arange(position, position + steps).repeat(2, 1)
        position += steps
        wanted = decoder(x, Placement.each(rope, positions, position), one)
        at = Place(rope, other, positions[:, 0].contiguous())
        flat = fused.step(x, at).flatten(0, 1)
        got = fused.kernels.normalize(flat, fused.norm).view_as(wanted)
        assert float((got - wanted).abs().max() / wanted.abs().max()) < limit


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("join", [True, False])
def test_quantized_weights_are_taken_as_they_are(join: bool) -> None:
    decoder = quantized(Precision.INT8, torch.bfloat16, join=join)
    kernels = chosen(CPU, torch.bfloat16, Path.TORCH)
    taken = FusedDecoder.of(decoder, kernels, Precision.FP8).layers[0]
    attention = decoder.layers[0].self_attn
    assert {each.data.dtype for each in (taken.qkv, taken.out, taken.gate_up, taken.down)} == {
        torch.int8
    }
    if join:
        assert isinstance(attention.joined, WeightOnly)
        assert taken.qkv.data.data_ptr() == attention.joined.weight.data.data_ptr()


def test_joined_floats_are_not_copied() -> None:
    decoder = Decoder(SHAPE)
    decoder.join()
    kernels = chosen(CPU, torch.float32, Path.TORCH)
    taken = FusedDecoder.of(decoder, kernels, Precision.NONE).layers[0]
    joined = decoder.layers[0].mlp.joined
    assert isinstance(joined, torch.Tensor)
    assert taken.gate_up.data.data_ptr() == joined.data_ptr()


@pytest.mark.skipif(not int8_cpu.available(), reason="no exact int8 kernels here")
def test_what_is_packed_for_a_cpu_is_refused() -> None:
    decoder = quantized(Precision.INT8, torch.float32)
    with pytest.raises(InputError, match="packed"):
        FusedDecoder.of(decoder, chosen(CPU, torch.float32, Path.TORCH), Precision.NONE)
