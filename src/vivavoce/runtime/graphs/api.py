"""What capturing needs of a device: graphs, streams, events, and memory it can copy into.

With it: the tensors that captured work may use, what is held of a device, and captured sizes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from vivavoce.errors import EngineError

BATCH_BUCKETS = (1, 2, 4, 8, 12, 16, 24, 32, 64)
"""Rows of a batch, or of a chunk of sound."""

LENGTH_BUCKETS = (16, 32, 64)
"""Positions of a piece of a prompt: as many rows as kernels multiply, and no longer than those who
speak can wait for it. Fewer than 16 take as long: weights are read once, and tensor cores take 16
at a time."""


def buckets_to(most: int, buckets: Sequence[int]) -> tuple[int, ...]:
    """Those below ``most``, and ``most`` itself. ``buckets`` ascend."""
    return (*buckets[: bisect_left(buckets, most)], most)


def bucket_over(count: int, buckets: Sequence[int]) -> int | None:
    """The smallest bucket that holds ``count``; None where none does."""
    place = bisect_left(buckets, count)
    return buckets[place] if place < len(buckets) else None


def address(tensor: Tensor) -> int:
    """Where the memory behind a tensor begins; the same for all views of it."""
    return tensor.untyped_storage().data_ptr()


class StaticTensors:
    """``constants`` are read by captured work, ``buffers`` are read and written.

    Everything given is kept alive, and must stay where it is: ``moved`` finds what did not.
    """

    def __init__(self) -> None:
        self._constants: dict[int, Tensor] = {}
        self._buffers: dict[int, Tensor] = {}
        self._modules: list[tuple[nn.Module, frozenset[int]]] = []

    def constants(self, tensors: Iterable[Tensor]) -> StaticTensors:
        """Allow reading; returns itself."""
        self._constants |= {address(tensor): tensor for tensor in tensors if tensor.numel()}
        return self

    def buffers(self, tensors: Iterable[Tensor]) -> StaticTensors:
        """Allow reading and writing; returns itself."""
        self._buffers |= {address(tensor): tensor for tensor in tensors if tensor.numel()}
        return self

    def module(self, module: nn.Module) -> StaticTensors:
        """Allow reading all tensors a module holds; returns itself."""
        self._modules.append((module, _addresses(module)))
        return self.constants(module_tensors(module))

    def readable(self, tensor: Tensor) -> bool:
        """Whether captured work may read it."""
        if tensor.numel() == 0:
            return True
        at = address(tensor)
        return at in self._constants or at in self._buffers

    def writable(self, tensor: Tensor) -> bool:
        """Whether captured work may write to it."""
        return tensor.numel() == 0 or address(tensor) in self._buffers

    def moved(self) -> bool:
        """Whether a module's tensor, or a buffer given alone, is no longer where it was."""
        apart = {**self._constants, **self._buffers}.items()
        if any(address(tensor) != at for at, tensor in apart):
            return True
        return any(not _addresses(module) <= known for module, known in self._modules)


def module_tensors(module: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and tensors that are plain attributes of a module or its children."""
    for each in module.modules():
        for values in (each._parameters, each._buffers, vars(each)):
            for name, value in values.items():
                if name not in ("_parameters", "_buffers", "_modules"):
                    yield from tensors_in(value)


def tensors_in(value: object) -> Iterator[Tensor]:
    """Tensors in dataclasses, sequences and mappings, however deep."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in([getattr(value, field.name) for field in fields(value)])


def _addresses(module: nn.Module) -> frozenset[int]:
    return frozenset(address(each) for each in module_tensors(module) if each.numel())


@dataclass(frozen=True, slots=True)
class Held:
    """How much is held now. ``graph_bytes`` is memory of the device."""

    graphs: int = 0
    graph_bytes: int = 0
    host_buffers: int = 0
    host_bytes: int = 0


class ResourceCounts:
    """Counts what is taken and given back."""

    def __init__(self) -> None:
        self.held = Held()

    def graph(self, change: int, size_bytes: int) -> None:
        """One graph more (``change`` 1) or less (-1)."""
        old = self.held
        graphs, total = old.graphs + change, old.graph_bytes + change * size_bytes
        self.held = Held(graphs, total, old.host_buffers, old.host_bytes)
        self._check()

    def host(self, change: int, size_bytes: int) -> None:
        """One buffer on the host more or less."""
        old = self.held
        buffers, total = old.host_buffers + change, old.host_bytes + change * size_bytes
        self.held = Held(old.graphs, old.graph_bytes, buffers, total)
        self._check()

    def _check(self) -> None:
        assert min(self.held.graphs, self.held.host_buffers) >= 0, "given back twice"


Work: TypeAlias = Callable[[], object]
"""Something to be done on tensors that stay where they are; its result is ignored: what it makes is
in buffers. It must do no harm when it runs once more than it is asked for."""


class CaptureFailed(EngineError):
    """Work could not be captured."""


class Stream(Protocol):
    """A queue of the device: what is on it happens in order, and beside other streams."""

    @property
    def name(self) -> str:
        """What work it is for, as traces and errors tell it."""
        ...

    def run(self, work: Work) -> None:
        """Put work on the queue; the host does not wait for it."""
        ...

    def wait(self, event: Event) -> None:
        """What comes on this queue from now on happens after ``event``. The host goes on."""
        ...

    def synchronize(self) -> None:
        """The host waits until the queue is empty."""
        ...


class Event(Protocol):
    """A mark in a stream."""

    def record(self, stream: Stream) -> None:
        """Set it behind all that is on the stream now."""
        ...

    def done(self) -> bool:
        """Whether the device has come by."""
        ...

    def wait(self) -> None:
        """The host waits for it."""
        ...


class Replay(Protocol):
    """Captured work."""

    @property
    def size_bytes(self) -> int:
        """Memory of the device that capturing it took beyond what its pool had."""
        ...

    def __call__(self) -> None:
        """Do it again, on the stream that is running."""
        ...

    def release(self) -> None:
        """Give it back; it can not be replayed any more. A second time does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class HostBuffer:
    """Memory of the host; ``pinned`` where the device can copy into it beside other work."""

    tensor: Tensor
    pinned: bool


class GraphApi(Protocol):
    """A device that captures. One thread uses it."""

    account: ResourceCounts
    main: Stream

    def enter(self) -> None:
        """Make ``main`` what the calling thread's own work runs on."""
        ...

    def stream(self, name: str, *, urgent: bool = False) -> Stream:
        """One more stream."""
        ...

    def event(self) -> Event:
        """An event, not yet recorded (and so done)."""
        ...

    def pool(self, *, urgent: bool = False) -> Any:
        """Memory that captures share whose replays never run beside each other.

        An urgent one's kernels are placed first. A capture that fails leaves it fit for others.
        """
        ...

    def capture(self, name: str, work: Work, statics: StaticTensors, pool: Any) -> Replay:
        """Run ``work`` to warm it up, then capture it. Raises CaptureFailed."""
        ...

    def make_room(self) -> None:
        """Give back memory of the device that is kept without use."""
        ...

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> HostBuffer:
        """Pinned where possible, else pageable; ``give_back`` returns it."""
        ...

    def give_back(self, buffer: HostBuffer) -> None:
        """The memory is not used any more."""
        ...
