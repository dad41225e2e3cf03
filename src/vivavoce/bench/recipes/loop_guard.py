"""What the guard against loops costs the host for each row and frame, from frame 75 on.

It is asked for every frame of every row, so its time stands once a row in each step. Codes are
drawn as speech does (2,048 of them), as a pause does (one of four), and as the loop it is made for;
a guard's first 75 frames, in which it decides nothing, are not timed. Checkouts are measured in
processes of their own that take turns.

vivavoce bench recipe loop_guard [--before CHECKOUT] [--frames 2000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .turns import Result, before_option, turn

WARM_UP_FRAMES = 75
ROWS = (1, 64)
ALPHABETS = {"speech": 2_048, "pause": 4, "loop": 1}


def guard() -> Callable[[int], object]:
    """A new guard over the first codes of Qwen3-TTS's frames: what takes the next of them."""
    try:  # where a checkout is from before the guard was every engine's
        guards = importlib.import_module("vivavoce.engines.qwen3.guards")
    except ModuleNotFoundError:
        from vivavoce.engines.utterance import LoopGuard

        found = LoopGuard(window=50, periods=25, share=0.95)
        return lambda code: found.push((code,))
    said: Callable[[int], object] = guards.LoopGuard().said
    return said


def measure(frames: int) -> dict[str, float]:
    """Microseconds a row and frame of this process's checkout, by codes and rows."""
    told = {}
    for name, alphabet in ALPHABETS.items():
        for rows in ROWS:
            rng = random.Random(rows)
            guards = [guard() for _ in range(rows)]
            count = max(20, frames // rows)
            spoken = [[rng.randrange(alphabet) for _ in guards] for _ in range(count)]
            for _ in range(WARM_UP_FRAMES):
                for push in guards:
                    push(rng.randrange(alphabet))
            began_s = time.perf_counter()
            for frame in spoken:
                for push, code in zip(guards, frame, strict=True):
                    push(code)
            took_s = time.perf_counter() - began_s
            told[f"{name}, {rows} rows"] = took_s / count / rows * 1e6
    return told


def compare(checkouts: dict[str, Path | None], frames: int, rounds: int) -> dict[str, Any]:
    """Medians of all rounds, and what a step of 64 rows takes."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for _ in range(rounds):
        for name, checkout in checkouts.items():
            found[name].append(turn("loop_guard", frames, checkout=checkout))
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


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    before_option(parser)
    parser.add_argument("--frames", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)


def main(asked: argparse.Namespace) -> Result:
    """Compare the checkouts in turns."""
    checkouts: dict[str, Path | None] = {"before": asked.before} if asked.before else {}
    checkouts["now"] = None
    found = compare(checkouts, asked.frames, asked.rounds)
    print(json.dumps(found, indent=2))
    return Result({"rounds": asked.rounds, **found})


def work(frames: str) -> None:
    """Measure this process's checkout."""
    print(json.dumps(measure(int(frames))))
