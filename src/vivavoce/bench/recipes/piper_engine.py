"""What the Piper engine costs: ``vivavoce bench recipe piper_engine``.

Load time, the stages up to the first sound for three lengths of text, the real-time factor alone
and with 16 utterances at once, and resident memory; each for 1 and 2 threads in one lane and for
two lanes. Every setting runs in a process of its own, so that memory is its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from .turns import Result, turn

TEXTS = {
    "two words": "Certainly, sir.",
    "a clause": "Hello there, how can I help you today?",
    "a sentence": (
        "The quick brown fox jumps over the lazy dog while the band plays on, and nobody seems "
        "to mind at all about the noise they make in the night, which is odd."
    ),
}
SETTINGS = (
    {"workers": 1, "threads": 1},
    {"workers": 1, "threads": 2},
    {"workers": 2, "threads": 1},
)
ROUNDS = 9
CALLERS = 16


def measure(options: dict[str, int]) -> dict[str, Any]:
    """Everything for one setting, in this process."""
    from vivavoce.engines.piper import create

    began_s = time.perf_counter()
    engine = create(options)
    engine.load()
    load_ms = (time.perf_counter() - began_s) * 1000
    loaded_mb = resident_mb()
    first = {name: first_sound(engine, text) for name, text in TEXTS.items()}
    return {
        "options": options,
        "load_ms": round(load_ms),
        "resident_loaded_mb": loaded_mb,
        "first_sound": first,
        "rtf_1": real_time_factor(engine, 1),
        f"rtf_{CALLERS}": real_time_factor(engine, CALLERS),
        "resident_after_mb": resident_mb(),
    }


def speak(engine: Any, texts: list[str]) -> list[tuple[float, Any]]:
    """Speak texts at once: (seconds since the start, what was produced) for every piece."""
    from vivavoce.types import Sampling, Span, Utterance

    voice = engine.voices()[0]
    began_s = time.perf_counter()
    live = {
        engine.admit(Utterance((Span(text),), voice, sampling=Sampling(seed=number)))
        for number, text in enumerate(texts)
    }
    pieces: list[tuple[float, Any]] = []
    while live:
        for piece in engine.step():
            pieces.append((time.perf_counter() - began_s, piece))
            if piece.last:
                live.discard(piece.slot)
    return pieces


def first_sound(engine: Any, text: str) -> dict[str, float]:
    """Median milliseconds of the stages before the first sound, and of the first sound."""
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        pieces = speak(engine, [text])
        stages: dict[str, float] = {}
        for at_s, piece in pieces:
            for name, spent_ms in piece.stages_ms.items():
                stages[name] = stages.get(name, 0.0) + spent_ms
            if len(piece.samples):
                stages["first_sound"] = at_s * 1000
                break
        stages["total"] = pieces[-1][0] * 1000
        rounds.append(stages)
    return {
        f"{name}_ms": round(statistics.median(each[name] for each in rounds), 1)
        for name in rounds[0]
    }


def real_time_factor(engine: Any, callers: int) -> float:
    """Seconds spent per second of sound, with so many callers at once; median of three."""
    factors = []
    for _ in range(3):
        pieces = speak(engine, [TEXTS["a sentence"]] * callers)
        sound_s = sum(len(piece.samples) for _, piece in pieces) / engine.info.sample_rate_hz
        factors.append(pieces[-1][0] / sound_s)
    return round(float(statistics.median(factors)), 4)


def resident_mb() -> int:
    """This process's resident memory (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024)


def options(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def main(asked: argparse.Namespace) -> Result:
    """Each setting in a process of its own."""
    results = []
    for setting in SETTINGS:
        results.append(turn("piper_engine", json.dumps(setting)))
        print(json.dumps(results[-1], indent=2), flush=True)
    return Result({"results": results})


def work(setting: str) -> None:
    """Measure one setting in this process."""
    print(json.dumps(measure(json.loads(setting))))
