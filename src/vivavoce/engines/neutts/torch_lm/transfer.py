"""What was drawn, on its way to the host without stopping the device."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sent:
    """One step's results on the way: ``owners`` says whose each row was when it was drawn."""

    owners: tuple[int, ...]
    values: Tensor
    arrived: Any


class Outbox:
    """Copies of small int64 tensors [B], collected in order, some steps later on a GPU.

    There the copy goes to pinned memory behind the step that made it; the host waits for the
    step before while the device is busy with the next.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._sent: deque[Sent] = deque()

    def send(self, drawn: Tensor, owners: tuple[int, ...]) -> None:
        """Start copying ``drawn`` as it is after what has been given to the device."""
        if not self._cuda:
            self._sent.append(Sent(owners, drawn.clone(), None))
            return
        values = torch.empty(drawn.shape, dtype=drawn.dtype, pin_memory=True)
        values.copy_(drawn, non_blocking=True)
        arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        arrived.record()
        self._sent.append(Sent(owners, values, arrived))

    def collect(self, keep: int) -> list[tuple[tuple[int, ...], NDArray[np.int64]]]:
        """What was sent, oldest first, but the last ``keep``; waits for it to arrive."""
        taken = []
        while len(self._sent) > keep:
            sent = self._sent.popleft()
            if sent.arrived is not None:
                sent.arrived.synchronize()
            taken.append((sent.owners, sent.values.numpy()))
        return taken

    def clear(self) -> None:
        """Forget what is on the way."""
        self._sent.clear()
