"""int8 matrices on a CPU, through the integer kernels that PyTorch brings (FBGEMM).

The product of two integers is the only one that a CPU does as fast as it reads int8 weights, so
activations become integers as well: each row in steps of 1/127 of its largest value, and what that
leaves in steps of 1/254 of those. The two are rows of one product, which reads the weights once,
and together they are finer than bfloat16: a few large channels (trained models have them) do not
drown the others. A row's scale is its own and the sums are integers, so that its result does not
depend on its company.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from vivavoce.runtime.nn.weights import Weight

ENGINE = "fbgemm"
_MOST = 127
_FINER = 254
_ZERO_POINT = 128


@dataclass(frozen=True, slots=True)
class Before:
    """RMSNorm as it stands before a matrix: x * ``weight`` / hypot(|x|, ``floor``), |x| Euclidean.

    ``weight`` [K] is the norm's own times sqrt(K), ``floor`` (no dimensions) sqrt(K eps).
    """

    weight: Tensor
    floor: Tensor

    @classmethod
    def of(cls, weight: Tensor, eps: float) -> Before:
        """From the weight [..., K] and eps of an ``RMSNorm``."""
        size = weight.shape[-1]
        return cls(weight.detach() * size**0.5, torch.tensor((size * eps) ** 0.5))

    def length(self, x: Tensor) -> Tensor:
        """What ``x`` [..., K] is divided by: [..., 1]."""
        return torch.hypot(torch.linalg.vector_norm(x, 2, -1, keepdim=True), self.floor)


@dataclass(frozen=True, slots=True)
class DynamicInt8:
    """A packed matrix. Only ``pack`` makes one; the weight it was made of may be dropped."""

    packed: Any
    shape: tuple[int, int]
    bias: Tensor | None

    @classmethod
    def pack(cls, weight: Weight) -> DynamicInt8:
        """Rearrange an int8 ``weight`` as the kernels read it."""
        assert weight.scale is not None
        outputs, inputs = weight.data.shape
        return cls(_pack(weight.data, weight.scale), (outputs, inputs), weight.bias)

    @property
    def nbytes(self) -> int:
        """Memory of values, scales (float32), row sums (int32) and bias."""
        outputs, inputs = self.shape
        return outputs * (inputs + 8) + (0 if self.bias is None else self.bias.nbytes)

    def __call__(self, x: Tensor) -> Tensor:
        """``x`` [..., K] to [..., N], in the dtype of ``x``."""
        wide = x.to(torch.float32)
        step = _step(wide)
        out = _multiply(wide / step, self.packed).mul_(step)
        return (out if self.bias is None else out.add_(self.bias)).to(x.dtype)

    def normed(self, x: Tensor, norm: Before) -> Tensor:
        """``self(norm(x))`` without bias, float32: the norm only scales a row, so it can wait."""
        weighted = x * norm.weight
        step = _step(weighted)
        return _multiply(weighted.div_(step), self.packed).mul_(step.div_(norm.length(x)))

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        """``residual + self(x)`` without bias, float32."""
        step = _step(x)
        return torch.addcmul(residual, _multiply(x / step, self.packed), step)


@cache
def available() -> bool:
    """Whether this PyTorch has the kernels and this CPU sums 8-bit products without saturation."""
    there = hasattr(torch.ops.quantized, "linear_with_input_q_dq_qweight_dq_output_fp32")
    return there and ENGINE in torch.backends.quantized.supported_engines and _sums_exactly()


def _step(x: Tensor) -> Tensor:
    """Of each row, [..., 1]. Zeros do no harm: what 0 / 0 is rounded to is then scaled by 0."""
    return x.abs().amax(-1, keepdim=True).div_(_MOST)


def _sums_exactly() -> bool:
    """Older instructions add pairs of products in 16 bits, which 255 * 127 twice does not fit."""
    try:
        packed = _pack(torch.full((1, 64), _MOST, dtype=torch.int8), torch.ones(1))
        sums = _integers(torch.full((1, 64), float(_MOST)), packed)
    except RuntimeError:
        return False
    return bool(torch.allclose(sums, torch.full((1, 1), 64.0 * _MOST * _MOST)))


def _pack(values: Tensor, scales: Tensor) -> Any:
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    before = torch.backends.quantized.engine
    with warnings.catch_warnings():
        # Torch means to move quantized tensors elsewhere; the kernels stay.
        warnings.filterwarnings("ignore", category=UserWarning)
        tensor = torch._make_per_channel_quantized_tensor(values, scales.double(), zeros, 0)
        torch.backends.quantized.engine = ENGINE
        try:
            return torch.ops.quantized.linear_prepack(tensor, None)
        finally:
            torch.backends.quantized.engine = before


def _multiply(x: Tensor, packed: Any) -> Tensor:
    """``x`` float32 [..., K] within -127 and 127, rounded to 1/254."""
    whole = x.round()
    rest = (x - whole).mul_(_FINER)
    sums = _integers(torch.stack((whole, rest)), packed)
    return torch.add(sums[0], sums[1], alpha=1 / _FINER)


def _integers(x: Tensor, packed: Any) -> Tensor:
    """``x`` float32 within -127 and 127, rounded to integers."""
    operator = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
    out: Tensor = operator(x, 1.0, _ZERO_POINT, packed)
    return out
