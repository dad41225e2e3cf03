"""The server as it is shipped: cold start, first sound, memory, what unloading it frees.

It runs in a process of its own, so that the memory it takes of the card is told with CUDA's own
context, which PyTorch does not count.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import httpx

from vivavoce.bench.clients import Target
from vivavoce.bench.engine.setting import MIB, Setting, Told, by_precision
from vivavoce.bench.heard import Listening
from vivavoce.bench.load import ClosedLoop
from vivavoce.bench.results import Setup
from vivavoce.bench.session import Session
from vivavoce.bench.stats import Distribution
from vivavoce.bench.texts import SHORT, TWO_WORDS, TextSource
from vivavoce.runtime.nvidia import only_gpu
from vivavoce.testing.server import ServerProcess, vivavoce_server

REQUESTS, WARM_UP = 10, 2
START_S = 600.0
"""A first start compiles kernels."""

KEY = "of-this-measurement"
FRAMES = 25
"""Of a request, 2 s: random weights end by nothing else."""

POLL_S = 0.2
UNLOAD_S = 120.0


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds without a request: after which a first sound is measured; after which it unloads."""

    idle_s: float
    unload_s: float


USUAL = Pauses(45.0, 60.0)
"""A card clocks down within seconds. The server unloads a while after the idle request."""

TINY = Pauses(0.5, 3.0)


def measure_server(setting: Setting) -> Told:
    """Of each precision, a server of its own."""
    return by_precision(setting, lambda precision: _of_precision(setting, precision))


def _of_precision(setting: Setting, precision: str) -> Told:
    pauses = TINY if setting.tiny else USUAL
    free_before = free_mb() if setting.device == "cuda" else None
    began_s = time.perf_counter()
    with server_of(setting, precision, pauses) as server:
        cold_s = time.perf_counter() - began_s
        told: Told = {"cold_start_s": round(cold_s, 2), "rows": _health(server)["capacity"]}
        told["loaded_mb"] = memory_mb(server, free_before)
        few = setting.tiny or setting.device == "cpu"
        texts = TextSource(TWO_WORDS if few else SHORT)
        told["one_caller"] = first_sounds(server.url, texts, 1 if few else REQUESTS, WARM_UP)
        time.sleep(pauses.idle_s)
        told["after_idle"] = {
            "idle_s": pauses.idle_s,
            **first_sounds(server.url, texts, 1, 0),
        }
        told["spoken_mb"] = memory_mb(server, free_before)
        _await_unloaded(server, pauses.unload_s + UNLOAD_S)
        told["unloaded_mb"] = memory_mb(server, free_before)
        told["unloading_freed_mb"] = freed_mb(told["spoken_mb"], told["unloaded_mb"])
        told["woken"] = first_sounds(server.url, texts, 1, 0)
    return told


def server_of(setting: Setting, precision: str, pauses: Pauses) -> ServerProcess:
    """With the settings of a server that shares its card; rows are as many as it gives itself."""
    environment = {
        "VIVAVOCE_QWEN3__DEVICE": setting.device,
        "QUANTIZE": precision,
        "IDLE_TIMEOUT": f"{pauses.unload_s:g}",
        "VIVAVOCE_API_KEYS": KEY,  # whatever keys this process's own environment has
    }
    named = ("--engine", "qwen3", "--model", str(setting.folder))
    return vivavoce_server(*named, environment=environment, timeout_s=START_S)


def first_sounds(url: str, texts: TextSource, requests: int, warm_up: int) -> Told:
    """One caller, one request after the other: milliseconds to the first byte and to what is heard.

    ``failed_requests``: how many brought no speech, by code, where any did.
    """
    target = Target(url, api_key=KEY, timeout_s=START_S, options={"max_frames": FRAMES})
    setup = Setup(target, ClosedLoop(requests=requests), Listening())
    summary = asyncio.run(Session(setup, texts, warm_up).measure()).summary
    told: Told = {
        "first_byte_ms": _short(summary.first_byte_ms),
        "audible_ms": _short(summary.audible_ms),
        "underruns_without_buffer": sum(each.underruns for each in summary.playback[:1]),
    }
    return told | ({"failed_requests": dict(summary.errors)} if summary.errors else {})


def free_mb() -> int | None:
    """Of the machine's one card, whoever uses it; None where there is none, or several."""
    gpu = only_gpu()
    return None if gpu is None or gpu.free_bytes is None else gpu.free_bytes // MIB


def memory_mb(server: ServerProcess, free_before_mb: int | None) -> Told:
    """Resident; of a card what the server took since ``free_before_mb``, and the context's part."""
    told: Told = {"resident": server.memory_bytes().get("rss", 0) // MIB}
    free_now_mb, health = free_mb(), _health(server)
    reserved = health["gpu_reserved_mb"]  # null while nothing is loaded, and on a CPU
    if reserved is not None:
        told |= {"allocated": health["gpu_allocated_mb"], "reserved": reserved}
    if free_before_mb is not None and free_now_mb is not None:
        told["of_the_card"] = free_before_mb - free_now_mb
        if reserved is not None:
            told["context_and_libraries"] = told["of_the_card"] - reserved
    return told


def freed_mb(before: Told, after: Told) -> Told:
    """The difference of each kind of memory that both tell."""
    return {name: before[name] - after[name] for name in before if name in after}


def _health(server: ServerProcess) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = httpx.get(f"{server.url}/health", headers=headers, timeout=60.0, trust_env=False)
    told: dict[str, Any] = answer.json()
    return told


def _await_unloaded(server: ServerProcess, most_s: float) -> None:
    latest_s = time.monotonic() + most_s
    while _health(server)["state"] != "unloaded":
        assert time.monotonic() < latest_s, f"it was not unloaded within {most_s:g} s"
        time.sleep(POLL_S)


def _short(distribution: Distribution | None) -> dict[str, float]:
    if distribution is None:
        return {}
    return {name: round(getattr(distribution, name), 2) for name in ("p50", "p95", "max")}
