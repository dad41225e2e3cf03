"""Small values from the host that a device needs now and then, without waiting for it."""

from __future__ import annotations

from collections.abc import Mapping

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


def sent_together(values: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Many ``values`` (host) on ``device`` by one copy, as views of one block of memory there.

    Pinning asks the system for memory, which may wait for the device: once is enough.
    """
    block = torch.empty(sum(map(_room, values.values())), dtype=torch.uint8)
    for part, each in zip(_parts(block, values), values.values(), strict=True):
        part.copy_(each)
    there = _parts(sent(block, device), values)
    return dict(zip(values, there, strict=True))


_ALIGNED_BYTES = 256
"""Where each part begins: what the kernels of a device like best."""


def _room(value: Tensor) -> int:
    return -(-value.nbytes // _ALIGNED_BYTES) * _ALIGNED_BYTES


def _parts(block: Tensor, like: Mapping[str, Tensor]) -> list[Tensor]:
    """Views of a block of bytes, one behind the other."""
    parts, at = [], 0
    for value in like.values():
        flat = block[at : at + value.nbytes].view(value.dtype)
        parts.append(flat.view(value.shape))
        at += _room(value)
    return parts
