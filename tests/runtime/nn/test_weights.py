"""Quantized weights."""

from __future__ import annotations

import pytest
import torch

from vivavoce.errors import InputError
from vivavoce.runtime.nn.weights import Precision, Weight, quantize, stack


def test_int8_is_within_half_a_step_of_each_channel() -> None:
    matrix = torch.randn(20, 300) * torch.logspace(-3, 3, 20)[:, None]
    weight = quantize(matrix, Precision.INT8)
    assert weight.scale is not None
    assert weight.data.dtype == torch.int8
    off = (weight.restored(torch.float64) - matrix.double()).abs()
    assert (off <= weight.scale[:, None].double() * 0.5001).all()
    assert (weight.data.abs().amax(1) == 127).all()


def test_fp8_keeps_three_bits_of_each_number() -> None:
    matrix = torch.randn(20, 300)
    weight = quantize(matrix, Precision.FP8)
    assert weight.scale is not None
    off = (weight.restored(torch.float64) - matrix.double()).abs()
    least = weight.scale[:, None].double() * 2**-9
    assert (off <= torch.maximum(matrix.double().abs() * 2**-4, least) * 1.001).all()


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_a_channel_of_zeros_stays_zero(precision: Precision) -> None:
    weight = quantize(torch.zeros(3, 16), precision)
    assert torch.equal(weight.restored(torch.float32), torch.zeros(3, 16))


def test_bytes_are_those_of_one_pass() -> None:
    matrix = torch.randn(64, 128).to(torch.bfloat16)
    assert quantize(matrix, Precision.NONE).nbytes == 64 * 128 * 2
    assert quantize(matrix, Precision.INT8).nbytes == 64 * 128 + 64 * 4


@pytest.mark.parametrize("precision", list(Precision))
def test_stacked_weights_are_the_same_weights(precision: Precision) -> None:
    parts = [quantize(torch.randn(n, 32), precision, torch.randn(n)) for n in (8, 3)]
    whole = stack(parts)
    restored = torch.cat([part.restored(torch.float32) for part in parts])
    assert torch.equal(whole.restored(torch.float32), restored)
    assert isinstance(whole, Weight) and whole.bias is not None and whole.bias.shape == (11,)


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError):
        quantize(torch.tensor([[1.0, float("nan")]]), Precision.INT8)
