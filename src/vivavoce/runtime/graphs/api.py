"""What capturing needs of a device: graphs, streams, events, and memory it can copy into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from vivavoce.errors import EngineError
from vivavoce.runtime.graphs.resource_counts import Account
from vivavoce.runtime.graphs.static_tensors import Statics

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

    account: Account
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

    def capture(self, name: str, work: Work, statics: Statics, pool: Any) -> Replay:
        """Run ``work`` to warm it up, then capture it. Raises CaptureFailed."""
        ...

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> HostBuffer:
        """Pinned where possible, else pageable; ``give_back`` returns it."""
        ...

    def give_back(self, buffer: HostBuffer) -> None:
        """The memory is not used any more."""
        ...
