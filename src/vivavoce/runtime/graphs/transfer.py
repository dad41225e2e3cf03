"""Copies between host and device that nobody waits for until the values are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vivavoce.runtime.graphs.api import Event, GraphApi, HostBuffer, Stream


def to_device(values: Tensor, device: torch.device) -> Tensor:
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


def to_device_packed(values: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Many ``values`` (host) on ``device`` by one copy, as views of one block of memory there.

    Pinning asks the system for memory, which may wait for the device: once is enough.
    """
    block = torch.empty(sum(map(_room, values.values())), dtype=torch.uint8)
    for part, each in zip(_parts(block, values), values.values(), strict=True):
        part.copy_(each)
    there = _parts(to_device(block, device), values)
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


class PendingCopy:
    """One copy on its way, in a slot of the ring; ``release`` frees the slot."""

    def __init__(self, values: Tensor, event: Event, free: Callable[[], None]) -> None:
        self._values, self._event = values, event
        self._free: Callable[[], None] | None = free

    def ready(self) -> bool:
        """Whether it is there."""
        return self._event.done()

    def take(self) -> Tensor:
        """Wait for it; the values [n], in memory of their own. The slot is free then."""
        self._event.wait()
        values = self._values.clone()
        self.release()
        return values

    def release(self) -> None:
        """Not wanted any more; it still arrives. A second time does nothing."""
        free, self._free = self._free, None
        if free is not None:
            free()


@dataclass(frozen=True, slots=True)
class _Slot:
    stage: Tensor
    host: HostBuffer
    staged: Event
    arrived: Event


class HostRing:
    """``slots`` buffers of ``size`` values, each on the device and on the host.

    A copy is staged on the stream that made the values, so that they may be overwritten at once,
    and leaves from there on the ring's own stream.
    """

    def __init__(self, api: GraphApi, like: Tensor, size: int, slots: int, name: str) -> None:
        """``like`` gives dtype and device."""
        self._api, self._like, self._size = api, like, size
        self._stream = api.stream(name)
        self._slots = [self._slot() for _ in range(slots)]
        self._free = list(range(slots))

    @property
    def in_use(self) -> int:
        """Slots that are not free."""
        return len(self._slots) - len(self._free)

    @property
    def pinned(self) -> bool:
        """Whether the host's memory is pinned."""
        return all(slot.host.pinned for slot in self._slots)

    def send(self, values: Sequence[Tensor], stream: Stream) -> PendingCopy:
        """Copy ``values`` made on ``stream``; they arrive flattened, one behind the other.

        A full ring grows by one slot, which costs a wait, rather than lose a copy.
        """
        self.make_room(stream)
        number = self._free.pop(0)
        slot, count = self._slots[number], sum(each.numel() for each in values)
        stage, host = slot.stage[:count], slot.host.tensor[:count]
        stream.wait(slot.arrived)  # its last copy, where that was released unread
        stream.run(lambda: _put(stage, values))
        slot.staged.record(stream)
        self._stream.wait(slot.staged)
        self._stream.run(lambda: _copy(host, stage, pinned=slot.host.pinned))
        slot.arrived.record(self._stream)
        return PendingCopy(host, slot.arrived, lambda: self._free.append(number))

    def make_room(self, stream: Stream) -> None:
        """Have a slot for what comes next on ``stream``, so that sending it takes no memory."""
        if self._free:
            return
        slot = self._slot()
        self._free.append(len(self._slots))
        self._slots.append(slot)
        made = self._api.event()  # its zeros come before what is put into it
        made.record(self._api.main)
        stream.wait(made)

    def close(self) -> None:
        """Give the host's memory back once the last copy is done."""
        self._stream.synchronize()
        for slot in self._slots:
            self._api.give_back(slot.host)
        self._slots.clear()
        self._free.clear()

    def _slot(self) -> _Slot:
        stage = self._like.new_zeros(self._size)
        host = self._api.host_buffer((self._size,), self._like.dtype)
        return _Slot(stage, host, self._api.event(), self._api.event())


class Feed:
    """Values from the host into tensors of the device, through ``slots`` buffers in turn."""

    def __init__(self, api: GraphApi, dtype: torch.dtype, size: int, slots: int) -> None:
        self._api = api
        self._hosts = [api.host_buffer((size,), dtype) for _ in range(slots)]
        self._events = [api.event() for _ in range(slots)]
        self._next = 0

    def put(self, values: Tensor, target: Tensor, stream: Stream) -> None:
        """Copy ``values`` (host) to ``target`` of as many values, contiguous, on ``stream``."""
        number, self._next = self._next, (self._next + 1) % len(self._hosts)
        self._events[number].wait()
        buffer = self._hosts[number]
        host = buffer.tensor[: values.numel()]
        host.copy_(values.flatten())
        stream.run(lambda: _copy(target.view(-1), host, pinned=buffer.pinned))
        self._events[number].record(stream)

    def close(self) -> None:
        """Give the host's memory back once the last copy is done."""
        for event, host in zip(self._events, self._hosts, strict=True):
            event.wait()
            self._api.give_back(host)
        self._hosts.clear()


def _put(stage: Tensor, values: Sequence[Tensor]) -> None:
    at = 0
    for each in values:
        stage[at : at + each.numel()].view(each.shape).copy_(each)
        at += each.numel()


def _copy(target: Tensor, source: Tensor, *, pinned: bool) -> None:
    target.copy_(source, non_blocking=pinned)


@dataclass(frozen=True, slots=True)
class _Sent:
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
        self._sent: deque[_Sent] = deque()

    def send(self, drawn: Tensor, owners: tuple[int, ...]) -> None:
        """Start copying ``drawn`` as it is after what has been given to the device."""
        if not self._cuda:
            self._sent.append(_Sent(owners, drawn.clone(), None))
            return
        values = torch.empty(drawn.shape, dtype=drawn.dtype, pin_memory=True)
        values.copy_(drawn, non_blocking=True)
        arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        arrived.record()
        self._sent.append(_Sent(owners, values, arrived))

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
