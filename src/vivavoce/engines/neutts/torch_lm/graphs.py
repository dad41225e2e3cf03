"""Running device work: as it is, or captured once and replayed.

Work is a function without arguments that reads and writes fixed buffers, and a key that stands
for its shapes. On a GPU a step is hundreds of small kernels, and starting each from Python would
take longer than running it; a replayed graph starts them all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeAlias

import torch

Work: TypeAlias = Callable[[], None]
WARM_UPS = 2


class Graphs(Protocol):
    """Runs work by key."""

    def capture(self, key: Hashable, work: Work) -> None:
        """Make ``key`` ready. Runs the work, so call it only while that changes nothing."""

    def run(self, key: Hashable, work: Work) -> None:
        """Do the work: by replaying what was captured under ``key``, or else as it is."""

    def clear(self) -> None:
        """Forget everything captured."""


class Eager:
    """Captures nothing."""

    def capture(self, key: Hashable, work: Work) -> None:
        """Nothing to make ready."""

    def run(self, key: Hashable, work: Work) -> None:
        """Call it."""
        work()

    def clear(self) -> None:
        """Nothing to forget."""


class CudaGraphs:
    """CUDA graphs that share one memory pool. They must be replayed in one stream."""

    def __init__(self) -> None:
        self._graphs: dict[Hashable, Any] = {}
        self._pool: Any = None

    def capture(self, key: Hashable, work: Work) -> None:
        """Warm up in a stream of its own, as capturing asks for, then record."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads (a codec's, say) may go on allocating meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            work()
        self._pool = self._pool or graph.pool()
        self._graphs[key] = graph

    def run(self, key: Hashable, work: Work) -> None:
        """Replay, or call what was not captured."""
        graph = self._graphs.get(key)
        if graph is None:
            work()
        else:
            graph.replay()

    def clear(self) -> None:
        """Free the graphs and their pool."""
        self._graphs.clear()
        self._pool = None
