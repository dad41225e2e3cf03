"""What is asked of PyTorch where a capture on CUDA fails, on a stand-in for its allocator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vivavoce.runtime.graphs import cuda
from vivavoce.runtime.graphs.api import CaptureFailed, StaticTensors
from vivavoce.runtime.graphs.captures import Captures, Job

Pool = tuple[int, int]


class Allocator:
    """Which pools are recorded to, and how many graphs hold each, as PyTorch counts it."""

    def __init__(self) -> None:
        self.recording: set[Pool] = set()
        self.held: dict[Pool, int] = {}
        self.sides: list[object] = []
        self.end_fails = True
        self.capturing = False
        self.filling: Pool | None = None
        self.warmed: list[Pool] = []

    @contextmanager
    def graph(self, graph: Any, pool: Pool, side: object, **how: str) -> Iterator[None]:
        assert how == {"capture_error_mode": "thread_local"}
        self.sides.append(side)
        assert self.filling is None
        if pool in self.recording:
            raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
        self.recording.add(pool)
        self.held[pool] = self.held.get(pool, 0) + 1
        self.capturing = True
        try:
            yield
        except RuntimeError as error:
            if self.end_fails:
                raise RuntimeError("the capture was invalidated") from error
            self.end(0, pool)
            self.release(0, pool)  # as the graph does, which ended
            raise
        finally:
            self.capturing = False
        self.end(0, pool)

    def fill(self, device: int, pool: Pool) -> None:
        """As for a pool: one that nobody holds any more must not be begun again."""
        assert device == 0 and self.filling is None and self.held.get(pool) != 0
        self.filling = pool
        self.held[pool] = self.held.get(pool, 0) + 1

    def end(self, device: int, pool: Pool) -> None:
        if self.filling == pool:
            self.filling = None
            return
        if device != 0 or pool not in self.recording:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.recording.remove(pool)

    def release(self, device: int, pool: Pool) -> None:
        self.held[pool] -= 1


@pytest.fixture
def allocator(monkeypatch: pytest.MonkeyPatch) -> Allocator:
    made, ids = Allocator(), count(1)
    stands: dict[str, Callable[..., Any]] = {
        "Stream": lambda *_, **how: SimpleNamespace(wait_stream=lambda _: None, **how),
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None, reset=lambda: None),
        "graph": made.graph,
        "graph_pool_handle": lambda: (0, next(ids)),
        "stream": lambda _: nullcontext(),
        "current_stream": lambda _: None,
        "set_stream": lambda _: None,
        "synchronize": lambda _: None,
        "memory_reserved": lambda _: 0,
        "current_device": lambda: 0,
    }
    for name, stand in stands.items():
        monkeypatch.setattr(torch.cuda, name, stand)
    monkeypatch.setattr(cuda, "forget_workspaces", lambda: None)
    monkeypatch.setattr(cuda, "_never_ended", [])
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", made.end, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", made.release, raising=False)
    begin = "_cuda_beginAllocateCurrentThreadToPool"
    monkeypatch.setattr(torch._C, begin, made.fill, raising=False)
    return made


def warmed(allocator: Allocator, fails: int) -> Captures[int]:
    """Captures of 3, 2 and 1, of which one fails while it is captured."""

    def work(number: int) -> Callable[[], None]:
        def run() -> None:
            if allocator.filling is not None:
                allocator.warmed.append(allocator.filling)
            if number == fails and allocator.capturing:
                raise RuntimeError("no such kernel")

        return run

    api = cuda.CudaGraphs(torch.device("cuda"))
    captures = Captures[int]("some", api, StaticTensors(), api.pool(urgent=True))
    captures.warm([Job(number, number, work(number)) for number in (1, 2, 3)])
    return captures


@pytest.mark.parametrize("end_fails", [False, True])
def test_one_that_fails_takes_no_other_along(allocator: Allocator, end_fails: bool) -> None:
    """It is ended and its hold on the memory given back, but once, and others have fresh memory."""
    allocator.end_fails = end_fails
    captures = warmed(allocator, fails=2)
    assert captures.keys == (3, 1) and captures.counts.failed == 1
    assert not allocator.recording
    assert list(allocator.held.values()) == [1, 1]
    assert len(cuda._never_ended) == end_fails
    first, failed, last = allocator.sides
    assert first is failed is not last


@pytest.mark.parametrize("end_fails", [False, True])
@pytest.mark.parametrize("fails", [1, 2])
def test_one_without_memory_has_room_made_and_is_tried_again_in_fresh_memory(
    fails: int, end_fails: bool, allocator: Allocator, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied: list[torch.device] = []
    monkeypatch.setattr(cuda, "empty_cache", emptied.append)
    allocator.end_fails = end_fails
    left = [torch.OutOfMemoryError("CUDA out of memory.")] * fails

    def scarce() -> None:
        if allocator.capturing and left:
            raise left.pop()

    api = cuda.CudaGraphs(torch.device("cuda"))
    captures = Captures[int]("some", api, StaticTensors(), api.pool())
    captures.warm([Job(2, 2, scarce), Job(1, 1, lambda: None)])
    assert len(emptied) == 1
    assert captures.keys == ((2, 1) if fails == 1 else (1,))
    assert captures.counts.failed == fails - 1
    assert not allocator.recording and sum(allocator.held.values()) == len(captures.keys)


def test_warm_ups_have_the_memory_that_is_recorded_to(allocator: Allocator) -> None:
    """Beside it they would take as much a second time, and hold it until nobody knows when."""
    warmed(allocator, fails=0)
    pool = (0, 1)
    assert allocator.warmed == [pool] * 3 * cuda.WARM_UPS
    assert allocator.held == {pool: 3} and allocator.filling is None


@pytest.mark.parametrize(
    "missing", ["_cuda_endAllocateToPool", "_cuda_beginAllocateCurrentThreadToPool"]
)
def test_a_pytorch_without_a_way_to_has_fresh_memory_too(
    missing: str, allocator: Allocator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch._C, "_cuda_beginAllocateCurrentThreadToPool")
    if "end" in missing:
        monkeypatch.delattr(torch._C, missing)
    assert warmed(allocator, fails=3).keys == (2, 1)
    assert not allocator.warmed
    assert len(cuda._never_ended) == 1


def test_a_warm_up_that_fails_lets_the_memory_go(allocator: Allocator) -> None:
    """Others have fresh memory: what nobody holds cannot be recorded to again."""
    api = cuda.CudaGraphs(torch.device("cuda", 0))
    pool = api.pool()
    memory = pool.memory

    def refused() -> None:
        raise OSError("no compiler")

    with pytest.raises(CaptureFailed, match="no compiler"):
        api.capture("bad", refused, StaticTensors(), pool)
    assert pool.memory is not memory
    assert allocator.held == {memory.pool_id: 0} and allocator.filling is None
    assert api.capture("good", lambda: None, StaticTensors(), pool)


@pytest.mark.parametrize("works", [True, False])
def test_a_lost_device_is_no_capture_that_failed(
    works: bool, allocator: Allocator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device is asked itself: what an error of a capture says is often no more than that."""
    lost = RuntimeError("CUDA error: an illegal memory access was encountered")

    def fail() -> None:
        raise lost

    def synchronize(device: torch.device) -> None:
        if not works:
            raise lost

    api = cuda.CudaGraphs(torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    with pytest.raises(CaptureFailed if works else RuntimeError) as caught:
        api.capture("bad", fail, StaticTensors(), api.pool())
    assert works or caught.value is lost
