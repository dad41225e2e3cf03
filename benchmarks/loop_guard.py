"""What the guard against loops costs the host for each row and frame, from frame 75 on.

It is asked for every frame of every row, so its time stands once a row in each step. Codes are
drawn as speech does (2,048 of them), as a pause does (one of four), and as the loop it is made for;
a guard's first 75 frames, in which it decides nothing, are not timed. Checkouts are measured in
processes of their own that take turns.

python benchmarks/loop_guard.py [--before CHECKOUT] [--frames 2000] [--rounds 5] [-o FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WARM_UP_FRAMES = 75
ROWS = (1, 64)
ALPHABETS = {"speech": 2_048, "pause": 4, "loop": 1}
OUTPUT = Path(__file__).parent / "results" / "loop_guard.json"


def measure(frames: int) -> dict[str, float]:
    """Microseconds a row and frame of this process's checkout, by codes and rows."""
    from vivavoce.engines.qwen3.row_speech import loop_guard

    told = {}
    for name, alphabet in ALPHABETS.items():
        for rows in ROWS:
            rng = random.Random(rows)
            guards = [loop_guard() for _ in range(rows)]
            count = max(20, frames // rows)
            spoken = [[rng.randrange(alphabet) for _ in guards] for _ in range(count)]
            for _ in range(WARM_UP_FRAMES):
                for guard in guards:
                    guard.push((rng.randrange(alphabet),))
            began_s = time.perf_counter()
            for frame in spoken:
                for guard, code in zip(guards, frame, strict=True):
                    guard.push((code,))
            took_s = time.perf_counter() - began_s
            told[f"{name}, {rows} rows"] = took_s / count / rows * 1e6
    return told


def run(checkout: Path, frames: int) -> dict[str, float]:
    """``measure`` of a checkout in a process of its own."""
    command = (sys.executable, __file__, "--one", "--frames", str(frames))
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout))


def compare(checkouts: dict[str, Path], frames: int, rounds: int) -> dict[str, Any]:
    """Medians of all rounds, and what a step of 64 rows takes."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for _ in range(rounds):
        for name, checkout in checkouts.items():
            found[name].append(run(checkout, frames))
    us = {
        name: {kind: statistics.median(one[kind] for one in taken) for kind in taken[0]}
        for name, taken in found.items()
    }
    return {
        "us_a_row_and_frame": {
            name: {kind: round(value, 3) for kind, value in of.items()} for name, of in us.items()
        },
        "ms_a_step_of_64_rows": {
            name: round(of["speech, 64 rows"] * 64 / 1000, 3) for name, of in us.items()
        },
    }


def main() -> None:
    """Compare, print, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    parser.add_argument("--frames", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.frames)))
        return
    from vivavoce.bench.device import provenance

    checkouts = {"before": arguments.before.resolve()} if arguments.before else {}
    checkouts["now"] = Path(__file__).parents[1]
    where = provenance()  # before the load average is our own
    found = compare(checkouts, arguments.frames, arguments.rounds)
    report = where | {"kind": "loop guard", "rounds": arguments.rounds, **found}
    print(json.dumps(found, indent=2))
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
