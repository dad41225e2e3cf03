from __future__ import annotations

import pytest
import torch

from vivavoce.runtime.nn.norm import RMSNorm


def norm(weight: torch.Tensor, dtype: torch.dtype) -> RMSNorm:
    made = RMSNorm(weight.shape[0], eps=1e-6)
    made.weight.data = weight
    return made.to(dtype)


def test_a_vector_is_scaled_to_unit_mean_square() -> None:
    out = norm(torch.ones(4), torch.float64)(torch.tensor([[3.0, -3.0, 3.0, 3.0]]).double())
    assert torch.allclose(out, torch.tensor([[1.0, -1.0, 1.0, 1.0]]).double())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    assert norm(torch.ones(8), dtype)(torch.randn(2, 8).to(dtype)).dtype is dtype


def test_half_precision_is_normalized_in_float32_and_cast_before_the_weight() -> None:
    x = (torch.randn(5, 64) * 300).half()  # squares overflow float16
    weight = torch.randn(64)
    wide = x.float()
    expected = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).half()
    assert torch.equal(norm(weight, torch.float16)(x), weight.half() * expected)
