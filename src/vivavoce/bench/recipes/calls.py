"""Simultaneous calls on Piper, turns after a hang-up, memory, import time.

    vivavoce bench recipe calls [--calls 16] [--skip-search]

A call is a caller who hears a sentence to its end, says something (``--think`` seconds), and hears
the next one; the calls begin at random within ``--ramp`` seconds. No buffer hides an underrun.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from vivavoce.bench.clients import Target
from vivavoce.bench.clients.plain import PlainSpeaker
from vivavoce.bench.heard import Listening, Measure
from vivavoce.bench.load import ClosedLoop, Summary
from vivavoce.bench.results import QUANTILES, Setup, distribution_row, figure_table, summary_view
from vivavoce.bench.session import Session
from vivavoce.bench.stats import Distribution, spread
from vivavoce.bench.texts import LONG, MEDIUM, TextSource
from vivavoce.testing.server import ServerProcess, vivavoce_server

from .turns import Result

BUFFERS_MS = (0.0, 40.0, 100.0)
LONGEST_LISTEN_S = 0.3
PAUSE_S = 0.3
IMPORTS = 10
SLOT_FREED = "tts_cancel_to_release_seconds"
STEP = "tts_step_seconds"
IMPORT_PROBE = """
import sys, time
began = time.perf_counter()
import vivavoce
took = time.perf_counter() - began
print(took * 1000, sorted({"numpy", "torch", "onnxruntime"} & set(sys.modules)))
"""


@dataclass(frozen=True, slots=True)
class Calls:
    """How a call goes."""

    count: int
    turns: int
    think_s: float
    ramp_s: float

    def load(self, calls: int = 1) -> ClosedLoop:
        """So many of them at once."""
        return ClosedLoop(
            concurrency=calls,
            requests=self.turns * calls,
            think_s=self.think_s,
            play_out=True,
            ramp_s=self.ramp_s,
        )

    def session(self, url: str, calls: int = 1) -> Session:
        """On that server."""
        return Session(Setup(Target(url), self.load(calls), Listening(BUFFERS_MS)))


def simultaneous(console: Console, server: ServerProcess, calls: Calls) -> dict[str, Any]:
    """The asked number of calls: are they all clean?"""
    summary = asyncio.run(calls.session(server.url, calls.count).measure()).summary
    console.print(f"\n{calls.count} calls at once, {calls.turns} turns each", style="bold")
    console.print(summary_view(summary))
    return {"calls": calls.count, "clean": summary.clean, "summary": asdict(summary)}


def search(console: Console, server: ServerProcess, calls: Calls, limit: int) -> dict[str, Any]:
    """How many are still clean."""

    def note(count: int, summary: Summary) -> None:
        console.print(f"{count:4d} calls: {'clean' if summary.clean else 'not clean'}")

    session = calls.session(server.url)
    outcome = asyncio.run(session.search(note, limit=limit, start=max(1, calls.count // 2)))
    assert outcome.search is not None
    console.print(f"largest number of clean calls: {outcome.search.max_calls}")
    return {**asdict(outcome.search), "limit": limit, "summary": asdict(outcome.summary)}


def first_sound_ms(measure: Measure) -> float:
    """Of a good request; anything else ends the run."""
    if measure.failure or measure.first_playable_ms is None:
        raise SystemExit(f"a turn failed: {measure.failure}")
    return measure.first_playable_ms


def after_hang_ups(server: ServerProcess, pairs: int) -> dict[str, Any]:
    """First sound of a turn that follows a hang-up at once, and of one after a pause, in turn."""
    speaker = PlainSpeaker(server.url, more={"model": "tts-1", "response_format": "pcm"})
    cut_off = TextSource(LONG)
    # Both turns of a pair say the same sentence, with other names.
    sentences = [TextSource([sentence]) for sentence in MEDIUM]
    fresh, next_turn, ratios = [], [], []
    for number in range(pairs):
        turns = sentences[number % len(sentences)]
        time.sleep(PAUSE_S)
        fresh.append(first_sound_ms(speaker.speak(turns.next())))
        time.sleep(PAUSE_S)
        speaker.speak(cut_off.next(), hang_up_after_s=random.uniform(0, LONGEST_LISTEN_S))
        next_turn.append(first_sound_ms(speaker.speak(turns.next())))
        ratios.append(next_turn[-1] / fresh[-1])
    spreads = {"fresh_ms": fresh, "after_hang_up_ms": next_turn, "pair_ratio": ratios}
    found = {name: spread(values) for name, values in spreads.items()}
    return {"p50_ratio": found["after_hang_up_ms"]["p50"] / found["fresh_ms"]["p50"], **found}


def histogram(server: ServerProcess, name: str) -> dict[float, float]:
    """A histogram of /metrics over all labels: upper bound in seconds to cumulative count."""
    text = httpx.get(server.url + "/metrics", trust_env=False).text
    found: dict[float, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == f"{name}_bucket":
                bound = float(sample.labels["le"])
                found[bound] = found.get(bound, 0.0) + sample.value
    return found


def bound_ms(buckets: dict[float, float], share: float) -> float | None:
    """The bucket bound, in milliseconds, that ``share`` of the values do not exceed."""
    total = buckets.get(math.inf, 0.0)
    for bound, count in sorted(buckets.items()):
        if total and count >= share * total and bound != math.inf:
            return bound * 1000
    return None


def slots_freed(server: ServerProcess) -> dict[str, Any]:
    """From cancel to free slot, and the length of a step, as the server counted them."""
    freed, step = histogram(server, SLOT_FREED), histogram(server, STEP)
    return {
        "cancels": freed.get(math.inf, 0.0),
        "p50_at_most_ms": bound_ms(freed, 0.5),
        "p99_at_most_ms": bound_ms(freed, 0.99),
        "step_p99_at_most_ms": bound_ms(step, 0.99),
    }


def import_time() -> dict[str, Any]:
    """Importing the package in a new interpreter, and what heavy modules that brings in."""
    times_ms, heavy = [], ""
    for _ in range(IMPORTS):
        done = subprocess.run(
            [sys.executable, "-c", IMPORT_PROBE], capture_output=True, text=True, check=True
        )
        took, _, heavy = done.stdout.strip().partition(" ")
        times_ms.append(float(took))
    return {"median_ms": statistics.median(times_ms), "heavy_modules": heavy}


def show(console: Console, report: dict[str, Any]) -> None:
    """What is not shown while it runs."""
    turns, freed = report["hang_ups"], report["slots_freed"]
    rows = [
        distribution_row(name, Distribution(**turns[name]))
        for name in ("fresh_ms", "after_hang_up_ms", "pair_ratio")
    ]
    console.print(figure_table("First sound of a turn", ("", *QUANTILES), rows))
    memory = {name: round(size / 1e6) for name, size in report["memory_bytes"].items()}
    facts = [
        ["after a hang-up / fresh, p50 (target at most 1.10)", turns["p50_ratio"]],
        ["slots freed by cancel", freed["cancels"]],
        ["cancel to slot free, p50 at most, ms", freed["p50_at_most_ms"]],
        ["cancel to slot free, p99 at most, ms", freed["p99_at_most_ms"]],
        ["one step, p99 at most, ms", freed["step_p99_at_most_ms"]],
        *([f"server memory {name}, MB (target under 300)", size] for name, size in memory.items()),
        ["import vivavoce, median ms (target under 150)", report["import"]["median_ms"]],
        ["heavy modules it brings", report["import"]["heavy_modules"]],
    ]
    console.print(figure_table("", ("", ""), facts))


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--calls", type=int, default=16)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--think", type=float, default=4.0)
    parser.add_argument("--ramp", type=float, default=4.0)
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--skip-search", action="store_true")
    parser.add_argument("--hang-ups", type=int, default=30)


def main(asked: argparse.Namespace) -> Result:
    """One server; quiet measurements first, load last."""
    console = Console()
    calls = Calls(asked.calls, asked.turns, asked.think, asked.ramp)
    report: dict[str, Any] = {"call": asdict(calls), "import": import_time()}
    with vivavoce_server("--engine", "piper") as server:
        loaded = server.memory_bytes()["rss"]
        report["hang_ups"] = after_hang_ups(server, asked.hang_ups)
        report["slots_freed"] = slots_freed(server)
        report["simultaneous"] = simultaneous(console, server, calls)
        memory = server.memory_bytes()
        report["memory_bytes"] = {"loaded": loaded, "after_calls": memory["rss"], **memory}
        del report["memory_bytes"]["rss"]
        if not asked.skip_search:
            report["search"] = search(console, server, calls, asked.limit)
    show(console, report)
    return Result(report)
