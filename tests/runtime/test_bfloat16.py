from __future__ import annotations

import numpy as np
import torch

from vivavoce.runtime.bfloat16 import to_bfloat16


def test_bfloat16_is_rounded_as_torch_rounds() -> None:
    values = np.random.default_rng(1).standard_normal(10_000).astype(np.float32)
    values[:4] = [1.00390625, 1.01171875, 0.0, -1e-40]  # ties, zero, a subnormal
    ours = torch.from_numpy(to_bfloat16(values).view(np.int16)).view(torch.bfloat16)
    assert torch.equal(ours, torch.from_numpy(values).bfloat16())
