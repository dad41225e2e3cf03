"""How much memory work needs at once, counted over tensors that have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

BLOCK_BYTES = 512
"""What the allocator of a GPU rounds up to."""


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._given: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _tensors([args, kwargs or {}]):
            ref = StorageWeakRef(tensor.untyped_storage())
            if ref.cdata not in self._live:
                self._given.add(ref.cdata)
        out = func(*args, **(kwargs or {}))
        self._live = {at: held for at, held in self._live.items() if not held[0].expired()}
        for tensor in _tensors(out):
            ref = StorageWeakRef(tensor.untyped_storage())
            if ref.cdata not in self._given:
                size = -(-tensor.untyped_storage().nbytes() // BLOCK_BYTES) * BLOCK_BYTES
                self._live[ref.cdata] = (ref, size)
        self.most = max(self.most, sum(size for _, size in self._live.values()))
        return out


def most_live_bytes(work: Callable[[], object]) -> int:
    """The most that tensors made by ``work`` take together at any time.

    What it is given is not counted. What is freed within one operation is not seen.
    """
    counting = _Counting()
    with torch.no_grad(), counting:
        work()
    return counting.most


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for each in value for tensor in _tensors(each)]
    return []
