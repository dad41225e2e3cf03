"""Quantized maps against float64, within bounds that follow from the rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vivavoce.runtime.nn import int8_cpu
from vivavoce.runtime.nn.linear import quantized_bytes
from vivavoce.runtime.nn.quantize import (
    QuantizedEmbedding,
    QuantizedLinear,
    WeightOnly,
    prepared,
    quantize_linears,
)
from vivavoce.runtime.nn.streaming import takes
from vivavoce.runtime.nn.weights import Precision, Weight, quantize

SIZES = [(1, 1), (5, 7), (64, 48), (33, 129), (130, 96)]
needs_int8 = pytest.mark.skipif(not int8_cpu.available(), reason="no exact int8 kernels here")


def drawn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def exact(x: Tensor, weight: Weight) -> Tensor:
    out = x.double() @ weight.restored(torch.float64).T
    return out if weight.bias is None else out + weight.bias.double()


def magnitude(x: Tensor, weight: Weight) -> Tensor:
    """The sum of absolute products: what rounding errors of sums are relative to."""
    out = x.double().abs() @ weight.restored(torch.float64).abs().T
    return out if weight.bias is None else out + weight.bias.double().abs()


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weight_only_is_the_product_of_the_quantized_matrix(
    precision: Precision, size: tuple[int, int], dtype: torch.dtype
) -> None:
    weight = quantize(drawn(*size), precision, drawn(size[0], seed=1))
    x = drawn(3, size[1], seed=2).to(dtype)
    out = WeightOnly(weight)(x)
    assert out.dtype == dtype
    # Sums in float32, two roundings to the dtype at most: of the sums and of the result.
    bound = magnitude(x, weight) * (2 * torch.finfo(dtype).eps + size[1] * 2**-24) + 1e-7
    assert (out.double() - exact(x, weight)).abs().le(bound).all()


@pytest.mark.parametrize("size", SIZES)
def test_int8_weights_are_within_half_a_step(size: tuple[int, int]) -> None:
    matrix = drawn(*size)
    weight = quantize(matrix, Precision.INT8)
    step = matrix.abs().amax(1, keepdim=True).double() / 127
    away = weight.restored(torch.float64) - matrix.double()
    assert away.abs().le(step * (0.5 + 1e-5)).all()


@needs_int8
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_are_within_half_a_fine_step(size: tuple[int, int], dtype: torch.dtype) -> None:
    weight = quantize(drawn(*size), Precision.INT8, drawn(size[0], seed=1))
    x = (drawn(4, size[1], seed=2) * torch.tensor([[1e-3], [1.0], [50.0], [1e4]])).to(dtype)
    out = int8_cpu.DynamicInt8.pack(weight)(x)
    assert out.dtype == dtype
    half_step = x.double().abs().amax(1, keepdim=True) / 127 / 254 / 2
    rounded = half_step * weight.restored(torch.float64).abs().sum(1)
    bound = rounded * (1 + 1e-4) + magnitude(x, weight) * torch.finfo(dtype).eps * 8 + 1e-6
    assert (out.double() - exact(x, weight)).abs().le(bound).all()


@needs_int8
def test_a_large_channel_does_not_drown_the_others() -> None:
    weight = quantize(drawn(48, 64), Precision.INT8)
    x = drawn(2, 64, seed=2)
    x[:, 7] = 1000
    weight.data[:, 7] = 0
    out = prepared(weight)(x)
    assert nn.functional.cosine_similarity(out.double(), exact(x, weight), -1).min() > 0.999


@needs_int8
@pytest.mark.parametrize("rows", [1, 2, 3, 8, 17])
def test_a_row_has_the_same_bits_in_any_company(rows: int) -> None:
    matrix = prepared(quantize(drawn(96, 80), Precision.INT8))
    assert isinstance(matrix, int8_cpu.DynamicInt8)
    x = drawn(rows, 80, seed=3) * torch.logspace(-3, 3, rows)[:, None]
    together = matrix(x)
    alone = torch.cat([matrix(row[None]) for row in x])
    assert together.equal(alone)
    assert matrix(x.view(rows, 1, 80)).equal(together.view(rows, 1, 96))


@needs_int8
def test_zeros_and_what_is_not_finite() -> None:
    matrix = prepared(quantize(drawn(8, 16), Precision.INT8))
    x = drawn(3, 16)
    x[0] = 0
    x[1, 5] = torch.nan
    out = matrix(x)
    assert out[0].eq(0).all()
    assert out[1].isnan().all()
    assert out[2].isfinite().all()


@needs_int8
def test_packing_leaves_the_quantized_engine_as_it_was() -> None:
    before = torch.backends.quantized.engine
    prepared(quantize(drawn(4, 4), Precision.INT8))
    assert torch.backends.quantized.engine == before


def test_few_rows_go_through_the_kernel_and_many_do_not() -> None:
    seen: list[int] = []

    def few(x: Tensor, weight: Weight) -> Tensor:
        seen.append(x.shape[0])
        return WeightOnly(weight)(x)

    matrix = WeightOnly(quantize(drawn(6, 10), Precision.INT8), few)
    most = max(rows for rows in range(1, 1000) if takes(rows, quantized=True))
    for rows in (1, 3, 5, most, most + 1):
        x = drawn(rows, 10)
        torch.testing.assert_close(matrix(x), exact(x, matrix.weight).float())
    assert seen == [1, 4, 8, most]  # each number of rows would be another kernel


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_every_linear_is_swapped_and_takes_a_byte_a_weight(precision: Precision) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 96), nn.SiLU(), nn.Sequential(nn.Linear(96, 32)))
    x = drawn(5, 64)
    before = model(x)
    assert quantize_linears(model, precision) == 2
    with torch.no_grad():
        after = model(x)
    assert nn.functional.cosine_similarity(before.flatten(), after.flatten(), 0) > 0.995
    weights, outputs = 64 * 96 + 96 * 32, 96 + 32
    assert weights <= quantized_bytes(model) <= weights + 12 * outputs
    assert not [name for name in model.state_dict() if name.endswith("weight")]


def test_an_embedding_in_int8_is_within_half_a_step() -> None:
    table = drawn(11, 24)
    embedding = QuantizedEmbedding(table, torch.float32)
    ids = torch.tensor([[0, 10], [3, 3]])
    out = embedding(ids)
    assert out.shape == (2, 2, 24)
    half_step = table.abs().amax(1)[ids][..., None] / 127 * (0.5 + 1e-5)
    assert (out - table[ids]).abs().le(half_step).all()


def test_a_weight_is_handed_over_once() -> None:
    linear = QuantizedLinear.of(nn.Linear(4, 4), Precision.INT8)
    linear.take()
    assert linear.nbytes == 0
    with pytest.raises(AssertionError):
        linear.take()
