"""Graphs, streams and pinned memory of CUDA, through PyTorch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch

from vivavoce.runtime.cuda import empty_cache
from vivavoce.runtime.device_errors import is_lost
from vivavoce.runtime.graphs.api import (
    CaptureFailed,
    Event,
    HostBuffer,
    ResourceCounts,
    StaticTensors,
    Stream,
    Work,
)
from vivavoce.runtime.graphs.captures import FAILURES, Pool

log = logging.getLogger(__name__)

WARM_UPS = 2
"""How often work runs before it is captured: libraries allocate and choose algorithms then."""

_URGENT, _USUAL = -1, 0

_never_ended: list[torch.cuda.CUDAGraph] = []
"""Kept for ever: PyTorch's allocators go on asking them which memory is theirs."""


def forget_workspaces() -> None:
    """Free what cuBLAS keeps for each stream (32 MiB on Hopper), where PyTorch has a way to.

    It has no public one. What cuBLAS needs next it takes anew.
    """
    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if clear is not None:
        clear()


def end_recording(graph: torch.cuda.CUDAGraph, index: int, pool_id: Any) -> None:
    """End a capture that failed, for the allocator, where PyTorch has a way to.

    PyTorch itself forgets to if the end of the capture fails as well. No more can be captured with
    ``pool_id`` then: what PyTorch has for pinned memory can not be ended.
    """
    end = getattr(torch._C, "_cuda_endAllocateToPool", None)
    release = getattr(torch._C, "_cuda_releasePool", None)
    if end is not None:
        try:
            end(index, pool_id)
        except RuntimeError:  # it has ended, and the graph gives back what it took
            return
        if release is not None:  # in place of the graph, which does so only if it ended
            release(index, pool_id)
    _never_ended.append(graph)


@contextmanager
def filled(index: int, pool_id: Any, work: Work) -> Iterator[None]:
    """``work`` with memory of a pool, so that what is recorded to it in here finds it there.

    Else the work's memory would be taken a second time, beside the pool. PyTorch has a way to from
    2.8 on. The pool is held to the end of the block: without a graph that holds it then, it is
    given up, and must not be used again.
    """
    begin = getattr(torch._C, "_cuda_beginAllocateCurrentThreadToPool", None)
    if begin is None:
        work()
        yield
        return
    begin(index, pool_id)
    try:
        try:
            work()
        finally:
            torch._C._cuda_endAllocateToPool(index, pool_id)
        yield
    finally:
        torch._C._cuda_releasePool(index, pool_id)


@dataclass(frozen=True, slots=True)
class CudaMemory:
    """A memory pool by its id, and the stream that fills it.

    The allocator shares a pool's blocks among captures of one stream alone, and what runs
    beside each other must share none.
    """

    pool_id: Any
    side: torch.cuda.Stream


CudaPool: TypeAlias = Pool[CudaMemory]


@dataclass(frozen=True, slots=True)
class CudaStream:
    """A stream that does not wait for the default one."""

    name: str
    raw: torch.cuda.Stream

    def run(self, work: Work) -> None:
        """Enqueue."""
        with torch.cuda.stream(self.raw):
            work()

    def wait(self, event: Event) -> None:
        """Order behind an event of another stream."""
        assert isinstance(event, CudaEvent)
        self.raw.wait_event(event.raw)

    def synchronize(self) -> None:
        """Wait until it is empty."""
        self.raw.synchronize()


@dataclass(frozen=True, slots=True)
class CudaEvent:
    """An event without timing; the host waits by spinning, which wakes it soonest."""

    raw: torch.cuda.Event = field(default_factory=torch.cuda.Event)

    def record(self, stream: Stream) -> None:
        """Mark a stream."""
        assert isinstance(stream, CudaStream)
        self.raw.record(stream.raw)

    def done(self) -> bool:
        """Whether the device has come by."""
        return self.raw.query()

    def wait(self) -> None:
        """Block the host until the device has come by."""
        self.raw.synchronize()


class CudaReplay:
    """A ``torch.cuda.CUDAGraph``."""

    def __init__(
        self, graph: torch.cuda.CUDAGraph, size_bytes: int, account: ResourceCounts
    ) -> None:
        self.size_bytes = size_bytes
        self._graph: torch.cuda.CUDAGraph | None = graph
        self._account = account
        account.graph(1, size_bytes)

    def __call__(self) -> None:
        """Launch it on the current stream."""
        assert self._graph is not None, "replayed after its release"
        self._graph.replay()

    def release(self) -> None:
        """Free the graph; its pool's memory goes when the last of the pool is freed."""
        if self._graph is not None:
            self._graph.reset()
            self._graph = None
            self._account.graph(-1, self.size_bytes)


class CudaGraphs:
    """One CUDA device. ``main`` becomes the current stream of the thread that calls ``enter``."""

    def __init__(self, device: torch.device) -> None:
        self.account = ResourceCounts()
        self._device = device
        self._said_pageable = False
        self.main: Stream = self.stream("main", urgent=True)

    def enter(self) -> None:
        """Let what this thread does without a stream of its own run on ``main``."""
        torch.cuda.synchronize(self._device)
        assert isinstance(self.main, CudaStream)
        torch.cuda.set_stream(self.main.raw)

    def stream(self, name: str, *, urgent: bool = False) -> CudaStream:
        """A new stream; an urgent one's kernels are placed first."""
        priority = _URGENT if urgent else _USUAL
        return CudaStream(name, torch.cuda.Stream(self._device, priority=priority))

    def event(self) -> CudaEvent:
        """A new event."""
        return CudaEvent()

    def pool(self, *, urgent: bool = False) -> CudaPool:
        """A memory pool of its own, and another after each capture that fails."""
        priority = _URGENT if urgent else _USUAL

        def make() -> CudaMemory:
            side = torch.cuda.Stream(self._device, priority=priority)
            return CudaMemory(torch.cuda.graph_pool_handle(), side)

        return Pool(make)

    def capture(self, name: str, work: Work, statics: StaticTensors, pool: CudaPool) -> CudaReplay:
        """Warm up, capture and replay on a side stream. Raises CaptureFailed, memory included.

        The warm-ups have the pool's own memory. A device that is lost raises what it says itself.
        """
        if statics.moved():
            raise CaptureFailed(f"{name}: a tensor is not where it was.")
        before = torch.cuda.memory_reserved(self._device)
        usual = torch.cuda.current_stream(self._device)
        graph = torch.cuda.CUDAGraph()
        try:
            with pool.recording() as memory:
                memory.side.wait_stream(usual)
                warm = partial(self._warm, work, memory)
                with filled(self._index, memory.pool_id, warm):
                    self._record(graph, work, memory)
            with torch.cuda.stream(memory.side):
                graph.replay()  # the first brings it onto the device
            torch.cuda.synchronize(self._device)
        except FAILURES as error:
            if is_lost(error):
                torch.cuda.synchronize(self._device)  # asked itself: many an error is the capture's
            raise CaptureFailed(f"{name}: {error}") from error
        finally:
            forget_workspaces()
            torch.cuda.set_stream(usual)  # a capture that fails in its end leaves the side stream
        taken = torch.cuda.memory_reserved(self._device) - before
        return CudaReplay(graph, max(0, taken), self.account)

    @property
    def _index(self) -> int:
        index = self._device.index
        return torch.cuda.current_device() if index is None else index

    def _warm(self, work: Work, memory: CudaMemory) -> None:
        with torch.cuda.stream(memory.side):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.synchronize(self._device)
        # What is captured has the library's workspace from its own pool.
        forget_workspaces()

    def _record(self, graph: torch.cuda.CUDAGraph, work: Work, memory: CudaMemory) -> None:
        """Other threads may use the device meanwhile (cloning a voice)."""
        mode = "thread_local"
        try:
            with torch.cuda.graph(graph, memory.pool_id, memory.side, capture_error_mode=mode):
                work()
        except BaseException:
            end_recording(graph, self._index, memory.pool_id)
            raise

    def make_room(self) -> None:
        """What PyTorch's allocator keeps."""
        empty_cache(self._device)

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> HostBuffer:
        """Pinned, or pageable with one warning where the system refuses to pin."""
        try:
            buffer = HostBuffer(torch.zeros(shape, dtype=dtype).pin_memory(), True)
        except RuntimeError as error:
            if not self._said_pageable:
                log.warning("No pinned memory (%s): copies to the host wait.", error)
            self._said_pageable = True
            buffer = HostBuffer(torch.zeros(shape, dtype=dtype), False)
        self.account.host(1, buffer.tensor.nbytes)
        return buffer

    def give_back(self, buffer: HostBuffer) -> None:
        """Count it as returned; PyTorch frees it with its last reference."""
        self.account.host(-1, buffer.tensor.nbytes)
