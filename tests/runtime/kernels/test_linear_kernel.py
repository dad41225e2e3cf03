"""Streaming projections in the interpreter, beside float64 and the plain path."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vivavoce.runtime.kernels import linear as plain
from vivavoce.runtime.kernels import linear_triton as fused
from vivavoce.runtime.kernels.linear import Norm
from vivavoce.runtime.kernels.tiles import choose_tile
from vivavoce.runtime.nn.weights import Precision, Weight, quantize

BF16 = torch.bfloat16


def matrix(
    n: int, k: int, precision: Precision = Precision.NONE, dtype: torch.dtype = BF16
) -> Weight:
    return quantize((torch.randn(n, k) / k**0.5).to(dtype), precision)


def norm_of(k: int, dtype: torch.dtype = BF16) -> Norm:
    return Norm((1 + torch.randn(k) / 4).to(dtype), 1e-6)


def exact(x: Tensor, weight: Weight, norm: Norm | None) -> Tensor:
    x = (x if norm is None else norm(x)).double()
    out = x @ weight.data.double().T
    return out if weight.scale is None else out * weight.scale.double()


def error(got: Tensor, wanted: Tensor) -> float:
    """The largest difference, in parts of the largest value."""
    return float((got.double() - wanted).abs().max() / wanted.abs().max())


def limit(dtype: torch.dtype) -> float:
    """One rounding of the largest value, and as much again for the sum in float32."""
    return 2 * torch.finfo(dtype).eps


# Outputs and inputs of the models' projections, cut short in the outputs for the interpreter, and
# sizes that fill no tile.
SIZES = [(48, 1024), (24, 2048), (8, 6144), (37, 1000), (5, 70)]


@pytest.mark.parametrize("rows", [1, 3, 16])
@pytest.mark.parametrize(("n", "k"), SIZES)
@pytest.mark.parametrize("precision", list(Precision))
def test_a_product_is_as_good_as_one_rounding(
    n: int, k: int, rows: int, precision: Precision
) -> None:
    x, weight = torch.randn(rows, k).to(BF16), matrix(n, k, precision)
    got = fused.linear(x, weight)
    wanted = exact(x, weight, None)
    assert got.dtype == BF16
    assert error(got, wanted) < limit(BF16)
    assert error(plain.linear(x, weight), wanted) < limit(BF16)


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize(("n", "k"), [(20, 2048), (19, 333)])
@pytest.mark.parametrize("precision", [Precision.NONE, Precision.INT8])
def test_norm_and_residual_are_the_reference_s(
    n: int, k: int, rows: int, precision: Precision
) -> None:
    x, weight, norm = torch.randn(rows, k).to(BF16) * 30, matrix(n, k, precision), norm_of(k)
    residual = torch.randn(rows, n).to(BF16)
    got = fused.linear(x, weight, norm, residual)
    wanted = plain.linear(x, weight, norm, residual)
    assert error(got, exact(x, weight, norm) + residual.double()) < limit(BF16)
    if precision is Precision.NONE:  # else the plain path rounds once more
        assert (got == wanted).double().mean() > 0.9


@pytest.mark.parametrize("rows", [1, 4, 9])
@pytest.mark.parametrize(("n", "k"), [(11, 1024), (13, 100)])
@pytest.mark.parametrize("precision", list(Precision))
def test_gate_and_up(n: int, k: int, rows: int, precision: Precision) -> None:
    x, weight, norm = torch.randn(rows, k).to(BF16), matrix(2 * n, k, precision), norm_of(k)
    gate, up = exact(x, weight, norm).chunk(2, -1)
    wanted = torch.nn.functional.silu(gate) * up
    assert error(fused.gated(x, weight, norm), wanted) < 2 * limit(BF16)
    assert error(plain.gated(x, weight, norm), wanted) < 2 * limit(BF16)


@pytest.mark.parametrize("rows", [1, 5])
def test_float32_stays_float32(rows: int) -> None:
    x, weight = torch.randn(rows, 600), matrix(33, 600, dtype=torch.float32)
    assert error(fused.linear(x, weight), exact(x, weight, None)) < 1e-5


@pytest.mark.parametrize("precision", [Precision.NONE, Precision.INT8])
@pytest.mark.parametrize("rows", [1, 6])
def test_a_bias_is_added_before_rounding(rows: int, precision: Precision) -> None:
    x, bias = torch.randn(rows, 256).to(BF16), torch.randn(40).to(BF16)
    bare = matrix(40, 256, precision)
    weight = Weight(bare.data, bare.scale, bias)
    assert error(fused.linear(x, weight), exact(x, bare, None) + bias.double()) < limit(BF16)


def test_a_row_s_result_does_not_depend_on_its_company() -> None:
    x, weight, norm = torch.randn(4, 1024).to(BF16), matrix(64, 1024), norm_of(1024)
    together = fused.gated(x, weight, norm)
    for row in range(4):
        assert torch.equal(fused.gated(x[row : row + 1], weight, norm)[0], together[row])


def test_more_rows_than_a_kernel_takes_go_the_plain_way() -> None:
    x, weight = torch.randn(40, 64).to(BF16), matrix(16, 64)
    assert torch.equal(fused.linear(x, weight), plain.linear(x, weight))


@pytest.mark.parametrize("rows", [1, 2, 8, 32])
@pytest.mark.parametrize(("n", "k"), [(4096, 1024), (1024, 3072), (6144, 2048), (2048, 6144)])
def test_tiles_cover_the_machine(rows: int, n: int, k: int) -> None:
    """A 4060 has 24 multiprocessors, an H100 132; fewer programs than that leave some idle."""
    tile = choose_tile(rows, n, k, 2)
    assert n // tile.block_n >= 128


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_silu_of_what_comes_out_and_rows_that_stand_apart(rows: int) -> None:
    """Every other row of a tensor, as of two tokens the last is; biased, and rounded in between."""
    both = torch.randn(rows, 2, 96).to(BF16)
    weight = Weight((torch.randn(80, 96) / 10).to(BF16), bias=torch.randn(80).to(BF16))
    norm = Norm((1 + torch.randn(96) / 5).to(BF16), 1e-6)
    for x in (both[:, 1], both[:, 0].contiguous(), both.transpose(1, 2)[:, :, 1]):
        for silu in (False, True):
            got = fused.linear(x, weight, norm, silu=silu)
            wanted = plain.linear(x, weight, norm, silu=silu)
            torch.testing.assert_close(got, wanted, rtol=2**-6, atol=2**-6)
    strided = torch.randn(96, rows).to(BF16).T
    torch.testing.assert_close(
        fused.linear(strided, weight), plain.linear(strided, weight), rtol=2**-6, atol=2**-6
    )
