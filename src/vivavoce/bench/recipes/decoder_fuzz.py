"""Twenty thousand damaged recordings of eight formats, sent to a server to be cloned.

    vivavoce bench recipe decoder_fuzz [--count 20000]

The mutants are those of ``tests/faults/decoder_fuzz.py``, made from seeds. Writes
benchmarks/results/decoder_fuzz.json: answers by format, processes that died of a mutant, memory of
the server over both halves of the run. The exit status says whether each was answered with 200 or
400, the server stayed, and its memory grew by no more than 2 % between the halves.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from .turns import Result, tests_on_path

tests_on_path()

from faults.decoder_fuzz import Fuzzed, fuzz, mutants  # noqa: E402
from faults.residue import process_counts  # noqa: E402
from quality.live import LiveServer, serving, settled  # noqa: E402

SETTINGS = {"audio_cache_max": 0}
BATCH = 500
MOST_GROWTH = 1.02


def measure(live: LiveServer, count: int) -> dict[str, Any]:
    """Send ``count`` mutants to a server."""
    warm = Fuzzed()
    fuzz(live, mutants(count, 200), warm)  # what grows to its size with the first uploads
    before, found, began_s = process_counts(live.process.pid), Fuzzed(), time.monotonic()
    with watched(live.process.pid) as memory_mb:
        for first in range(0, count, BATCH):
            fuzz(live, mutants(first, min(BATCH, count - first)), found)
    took_s, half = time.monotonic() - began_s, len(memory_mb) // 2
    processes = {
        state: live.metric("tts_decoder_processes", state=state) for state in ("started", "died")
    }
    after = settled(lambda: process_counts(live.process.pid), lambda seen: seen <= before)
    return {
        "took_s": round(took_s, 1),
        "answers": {
            name: {str(status): number for status, number in sorted(answers.items())}
            for name, answers in sorted(found.answers.items())
        },
        "failed": found.failed,
        "decoder_processes": processes,
        "server_stayed": live.process.poll() is None,
        "memory_mb": {
            "first_half": round(statistics.mean(memory_mb[:half]), 1),
            "second_half": round(statistics.mean(memory_mb[half:]), 1),
            "most": round(max(memory_mb), 1),
        },
        "threads_and_files": {"before": before, "after": after},
    }


@contextmanager
def watched(pid: int) -> Iterator[list[float]]:
    """The resident memory of a process in MB, ten times a second."""
    seen: list[float] = []
    done = Event()

    def watch() -> None:
        while not done.wait(0.1):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            seen.append(pages * 4096 / 1e6)

    watching = Thread(target=watch)
    watching.start()
    try:
        yield seen
    finally:
        done.set()
        watching.join()


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--count", type=int, default=20_000)


def main(asked: argparse.Namespace) -> Result:
    """Send, look, judge."""
    with serving("fake", SETTINGS) as live:
        found = measure(live, asked.count)
    print(json.dumps(found, indent=1))
    flat = found["memory_mb"]["second_half"] <= MOST_GROWTH * found["memory_mb"]["first_half"]
    figures = {"settings": SETTINGS, "count": asked.count, "av": importlib.metadata.version("av")}
    return Result(figures | found, well=flat and not found["failed"] and found["server_stayed"])
