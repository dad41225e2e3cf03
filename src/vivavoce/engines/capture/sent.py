"""Small values from the host that a device needs now and then, without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(values: Tensor, device: torch.device) -> Tensor:
    """``values`` (host) on ``device``; to CUDA from pinned memory where there is some.

    A copy from pageable memory would wait for all that the device still has to do. PyTorch keeps
    the pinned block until the copy is done.
    """
    if device.type != "cuda":
        return values.to(device)
    try:
        return values.pin_memory().to(device, non_blocking=True)
    except RuntimeError:
        return values.to(device)
