"""What threads cost Qwen3-TTS on a CPU: processor time a frame, beside nobody and beside others.

PyTorch's threads wait for each other by spinning, so with as many as there are cores every other
busy process makes all of them burn time. Weights are random, of true size unless the folder given
is another; each figure is of a process of its own, and the kinds take turns.

vivavoce bench recipe qwen3_threads [--model FOLDER] [--frames 25] [--rounds 3] [-o FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vivavoce.runtime.torch_threads import WAIT_POLICY

from .turns import Result, turn

MODEL = "Qwen3-TTS-12Hz-0.6B-CustomVoice"
TEXT = "The quick brown fox jumps over the lazy dog, and nobody minds at all, or says a word."
WARM_UP_FRAMES = 3


def measure(folder: str, threads: int, quantize: str, frames: int) -> dict[str, float]:
    """One process: frames of one row, greedy; processor and wall time for each."""
    from vivavoce.engines.qwen3 import create
    from vivavoce.engines.qwen3.engine import Qwen3Engine
    from vivavoce.types import Span, Utterance

    options = {"model": folder, "device": "cpu", "quantize": quantize, "capacity": 1}
    engine = create(options | ({"threads": threads} if threads else {}))
    assert isinstance(engine, Qwen3Engine)
    engine.load()
    chosen = int(engine.info.details["threads"])
    how = {"max_frames": WARM_UP_FRAMES + frames + 50, "guards": False, "greedy": True}
    slot = engine.admit(Utterance((Span(TEXT),), engine.voices()[0], options=how))
    made = engine.record(slot)
    while len(made) < WARM_UP_FRAMES:
        engine.step()
    began_s, before_s, before = time.perf_counter(), _processor_s(), len(made)
    while len(made) < before + frames:
        engine.step()
    wall_s, cpu_s = time.perf_counter() - began_s, _processor_s() - before_s
    return {
        "threads": chosen,
        "cpu_s_a_frame": cpu_s / (len(made) - before),
        "wall_s_a_frame": wall_s / (len(made) - before),
    }


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many others that never rest."""
    others = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)
    ]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@dataclass(frozen=True)
class Kind:
    """``threads`` 0 is the engine's own choice; ``policy`` is OpenMP's, "" the engine's."""

    name: str
    threads: int
    policy: str
    rounds: int


def compare(asked: argparse.Namespace, cores: int) -> list[dict[str, Any]]:
    """Each kind beside nobody and beside a busy process a core, in turns."""
    kinds = (
        Kind("now: half the cores, sleeping", 0, "", asked.rounds),
        Kind("before: all cores, spinning", cores, "active", asked.rounds_before),
    )
    found: dict[tuple[Kind, int], list[dict[str, float]]] = {}
    for number in range(max(kind.rounds for kind in kinds)):
        for kind in kinds:
            for others in (0, cores) if number < kind.rounds else ():
                with busy(others):
                    found.setdefault((kind, others), []).append(run(asked, kind))
                print(kind.name, others, found[kind, others][-1], flush=True)
    return [
        {
            "kind": kind.name,
            "busy_processes": others,
            "rounds": len(taken),
            **{name: round(statistics.median(one[name] for one in taken), 4) for name in taken[0]},
        }
        for (kind, others), taken in found.items()
    ]


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--model", default="")
    parser.add_argument("--quantize", default="int8")
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rounds-before", type=int, default=1)


def main(asked: argparse.Namespace) -> Result:
    """Each kind in turns, beside nobody and beside others."""
    from vivavoce.runtime.machine import usable_cores

    with tempfile.TemporaryDirectory() as folder:
        if not asked.model:
            from vivavoce.testing.random_qwen3 import make_random_checkpoint

            asked.model = str(Path(folder) / "model")
            make_random_checkpoint(MODEL, Path(asked.model), seed=1, eos_gain=0)
        return Result({"results": compare(asked, usable_cores())})


def run(asked: argparse.Namespace, kind: Kind) -> dict[str, float]:
    """``measure`` in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != WAIT_POLICY}
    if kind.policy:
        environment[WAIT_POLICY] = kind.policy
    words = (asked.model, kind.threads, asked.quantize, asked.frames)
    return dict(turn("qwen3_threads", *words, environment=environment))


def work(folder: str, threads: str, quantize: str, frames: str) -> None:
    """Measure in this process."""
    print(json.dumps(measure(folder, int(threads), quantize, int(frames))))
