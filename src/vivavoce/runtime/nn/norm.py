"""Root-mean-square normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class RMSNorm(nn.Module):
    """RMSNorm (Zhang & Sennrich 2019) over the last dimension; see ``rms_norm``.

    ``whole`` is one kernel on a GPU, and rounds after the weight is applied.
    """

    def __init__(self, size: int, eps: float, *, whole: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps
        self.whole = whole

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [..., size], normalized, in its own dtype."""
        if self.whole:
            return functional.rms_norm(x, [x.shape[-1]], self.weight, self.eps)
        return rms_norm(x, self.weight, self.eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x`` [..., size] over its root mean square, times ``weight`` (broadcast over ``x``).

    The mean square and the scaling are computed in float32 (float64 for float64 input) and cast
    back before the weight is applied, as the published Qwen3 arithmetic does.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return functional.rms_norm(wide, [x.shape[-1]], None, eps).to(x.dtype) * weight
