"""Causal layers in pieces against PyTorch's own layers over the whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from engines.qwen3.codec.small import SAMPLES_PER_FRAME, some_codes
from vivavoce.engines.qwen3.checkpoint import Checkpoint
from vivavoce.engines.qwen3.codec.carry import (
    MATRIX_FROM_INPUTS,
    Carry,
    Carrying,
    CausalConv1d,
    CausalTransposedConv1d,
    carried_shapes,
    name_places,
)
from vivavoce.engines.qwen3.codec.decoder import CodecDecoder, load_decoder

ROWS, LENGTH = 2, 24
pieces = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def streamed(layer: Carrying, x: Tensor, cuts: list[int], unit: int = 1) -> Tensor:
    """``x`` through ``layer`` in pieces of ``cuts`` times ``unit``."""
    name_places(layer)
    held = {name: x.new_zeros(ROWS, *shape) for name, shape in carried_shapes(layer).items()}
    rest = x.shape[-1] // unit - sum(cuts)
    sizes = [size * unit for size in (*cuts, rest) if size]
    with torch.no_grad():
        return torch.cat([layer(part, Carry(held)) for part in x.split(sizes, -1)], -1)


def noise(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@settings(deadline=None, max_examples=30)
@given(
    cuts=pieces,
    dilation=st.sampled_from([1, 3, 9]),
    matrix=st.booleans(),
    kernel=st.sampled_from([1, 3, 7]),
)
def test_a_convolution(cuts: list[int], dilation: int, matrix: bool, kernel: int) -> None:
    layer = CausalConv1d(3, 4, kernel, dilation=dilation).double()
    assert not layer.as_matrix
    layer.as_matrix = matrix
    x = noise(1, ROWS, 3, sum(cuts) + LENGTH)
    expected = layer.conv(functional.pad(x, ((kernel - 1) * dilation, 0))).detach()
    torch.testing.assert_close(streamed(layer, x, cuts), expected)


@settings(deadline=None, max_examples=15)
@given(cuts=pieces, stride=st.integers(1, 5))
def test_a_strided_convolution(cuts: list[int], stride: int) -> None:
    layer = CausalConv1d(3, 4, 2 * stride, stride=stride).double()
    x = noise(2, ROWS, 3, (sum(cuts) + 3) * stride)
    expected = layer.conv(functional.pad(x, (stride, 0))).detach()
    torch.testing.assert_close(streamed(layer, x, cuts, stride), expected)


def test_the_last_piece_is_completed_with_zeros() -> None:
    layer = CausalConv1d(3, 4, 8, stride=4).double()
    x = noise(3, ROWS, 3, 9)
    expected = layer.conv(functional.pad(x, (4, 3))).detach()
    torch.testing.assert_close(streamed(layer, x, []), expected)


@settings(deadline=None, max_examples=30)
@given(cuts=pieces, stride=st.integers(1, 5), strides=st.sampled_from([1, 2]), fold=st.booleans())
def test_a_transposed_convolution(cuts: list[int], stride: int, strides: int, fold: bool) -> None:
    layer = CausalTransposedConv1d(3, 4, strides * stride, stride).double()
    x = noise(4, ROWS, 3, sum(cuts) + LENGTH)
    expected = layer.conv(x).detach()[..., : x.shape[-1] * stride]
    before = layer.conv.weight.detach().clone()
    if fold:
        layer.fold()
        layer.fold()
    assert torch.equal(layer.conv.weight, before)
    torch.testing.assert_close(streamed(layer, x, cuts), expected)


def test_a_transposed_convolution_of_three_strides_is_refused() -> None:
    with pytest.raises(ValueError, match="one or two strides"):
        CausalTransposedConv1d(3, 4, 9, 3)


def test_wide_layers_alone_are_multiplied_as_matrices() -> None:
    wide = MATRIX_FROM_INPUTS
    assert CausalConv1d(wide, 4, 7).as_matrix
    assert not CausalConv1d(wide - 1, 4, 7).as_matrix
    assert not CausalConv1d(wide, wide, 7, groups=wide).as_matrix
    assert not CausalConv1d(wide, 4, 4, stride=2).as_matrix
    assert not CausalConv1d(wide, 4, 1).as_matrix


def test_the_decoder_sounds_the_same_either_way(small: Checkpoint, exact: CodecDecoder) -> None:
    other = load_decoder(small, dtype=torch.float64)
    for layer in other.modules():
        if isinstance(layer, CausalConv1d):
            layer.as_matrix = layer.conv.groups == 1
    codes = some_codes("either", 2, 10)
    sound = other.decode(codes, other.init_state(2))
    assert sound.shape == (2, 10 * SAMPLES_PER_FRAME)
    torch.testing.assert_close(sound, exact.decode(codes, exact.init_state(2)))
