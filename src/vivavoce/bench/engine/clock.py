"""Milliseconds of work on a device, and how fast its memory is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vivavoce.runtime.graphs.api import Work

if TYPE_CHECKING:
    import torch

COPIES = 5
AHEAD_CYCLES = 10_000_000
"""Of the device's clock, milliseconds: longer than launching a graph of 2,000 kernels takes."""


def median_ms(works: Sequence[Work], device: torch.device, rounds: int) -> float:
    """Of one of ``works``, done one after the other; on CUDA all of them as one captured graph."""
    return statistics.median(_times_ms(works, device, rounds)) / len(works)


def copy_gb_s(device: torch.device, *, tiny: bool = False) -> float:
    """What a large copy reads and writes in a second, the best of several: the bandwidth."""
    import torch

    source = torch.ones(2**24 if tiny else 2**29, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copies: list[Work] = [lambda: target.copy_(source)] * 4
    best_ms = min(_times_ms(copies, device, COPIES)) / len(copies)
    return round(2 * source.nbytes / best_ms / 1e6, 1)


def _times_ms(works: Sequence[Work], device: torch.device, rounds: int) -> list[float]:
    if device.type == "cuda":
        return graph_times_ms(works, rounds)
    return [_elapsed_ms(lambda: [work() for work in works]) for _ in range(rounds + 1)][1:]


def _elapsed_ms(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1000


def graph_times_ms(works: Sequence[Work], rounds: int) -> list[float]:
    """Milliseconds of all works, captured as one CUDA graph, for each replay of it."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for work in works:
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for work in works:
            work()
    graph.replay()
    times_ms = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        _keep_busy()
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times_ms.append(begin.elapsed_time(end))
    return times_ms


def _keep_busy() -> None:
    """Let the device wait while the host puts what is timed behind it, where PyTorch can."""
    import torch

    sleep = getattr(torch.cuda, "_sleep", None)
    if sleep is not None:
        sleep(AHEAD_CYCLES)
