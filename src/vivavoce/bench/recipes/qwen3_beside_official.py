"""Qwen3-TTS's milliseconds a frame beside the published package.

Both speak the same text with the same random weights of the published size, dtype and threads on
a CPU, one after the other in turn, the same number of frames (the end of speech is never drawn).
A frame is the talker, the code predictor and all sampling; the codec is timed apart. Ours is the
whole engine, stepped as a server steps it; theirs is ``generate``. Also the time to our first
chunk and the most memory that loading takes. QWEN_TTS_PYTHON names an interpreter with qwen-tts
0.1.1 (tests/interop/qwen_tts/test_parity.py says how to make one).

Writes benchmarks/results/qwen3_beside_official.json; the exit status says whether we were not
slower and loading stayed within its bound.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .turns import HERE, Conversation, Result, published_python, worker_command

PUBLISHED = HERE / "published_qwen3.py"

MODEL = "Qwen3-TTS-12Hz-0.6B-CustomVoice"
DTYPES = ("bfloat16", "float32")
TEXT = "The train to Leipzig leaves at a quarter past nine from platform four."
SPEAKER, LANGUAGE = "ryan", "english"
FRAME_SAMPLES = 1920
MAX_LOADING = 1.15
"""The most memory that loading the weights may take, of what they take in the dtype."""


def measured(chosen: argparse.Namespace, python: str) -> dict[str, Any]:
    """Every dtype, on one checkpoint that is deleted afterwards."""
    from vivavoce.testing.random_qwen3 import make_random_checkpoint

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / MODEL
        make_random_checkpoint(MODEL, folder, tiny=chosen.tiny, seed=chosen.seed, eos_gain=0)
        return {dtype: beside(folder, dtype, chosen, python) for dtype in chosen.dtypes}


def beside(folder: Path, dtype: str, chosen: argparse.Namespace, python: str) -> dict[str, Any]:
    """One dtype: both loaded, then asked in turn."""
    from vivavoce.engines.qwen3.tokenizer import TextTokenizer

    asked = {"text": TextTokenizer.load(folder).encode(TEXT), "written": TEXT}
    asked |= {"speaker": SPEAKER, "language": LANGUAGE}
    place = [str(folder), dtype, str(chosen.threads)]
    commands = {
        "ours": worker_command("qwen3_beside_official", *place),
        "published": [python, str(PUBLISHED), "time", *place],
    }
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(command, asked)) for name, command in commands.items()
        }
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
        for worker in workers.values():
            worker.speak(3)
        for _ in range(chosen.rounds):
            for name, worker in workers.items():
                rounds[name].append(worker.speak(chosen.frames))
        loads = {name: worker.loaded for name, worker in workers.items()}
    found = judged(rounds, loads, weights_mb(folder, dtype))
    # With so many threads busy, what is over their number was somebody else's work.
    return found | {"load_average_after": round(os.getloadavg()[0], 2)}


class Worker(Conversation):
    """A process with one model, which is told what to say first."""

    def __init__(self, command: list[str], asked: dict[str, Any]) -> None:
        super().__init__(command)
        self.loaded = self.ask(json.dumps(asked))

    def speak(self, frames: int) -> dict[str, Any]:
        """One utterance; exactly so many frames."""
        told = self.ask(str(frames))
        if told["frames"] != frames:
            raise RuntimeError(f"{told['frames']} frames instead of {frames}")
        return told


def judged(
    rounds: dict[str, list[dict[str, Any]]], loads: dict[str, dict[str, Any]], weights: float
) -> dict[str, Any]:
    """Medians of both sides, and whether ours are good enough."""
    frame_ms = {
        name: [statistics.median(told["frame_ms"]) for told in each]
        for name, each in rounds.items()
    }
    pairs = zip(frame_ms["ours"], frame_ms["published"], strict=True)
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    ours = loads["ours"]
    peak = (ours["peak_mb"] - ours["before_mb"]) / weights
    return {
        "frames": rounds["ours"][0]["frames"],
        "frame_ms": {
            name: {"median": round(statistics.median(each), 2), "rounds": rounded(each)}
            for name, each in frame_ms.items()
        },
        "ratio": round(ratio, 3),
        "not_slower": ratio <= 1,
        "whole_ms": {name: median_of(each, "whole_ms") for name, each in rounds.items()},
        "prompt_ms": {name: median_of(each, "prompt_ms") for name, each in rounds.items()},
        "first_chunk_ms": median_of(rounds["ours"], "first_chunk_ms"),
        "decode_ms_per_frame": {
            "ours_by_chunk": {
                chunk: round(statistics.median(t["decode_ms"][chunk] for t in rounds["ours"]), 2)
                for chunk in rounds["ours"][0]["decode_ms"]
            },
            "published_whole": median_of(rounds["published"], "decode_ms_per_frame"),
        },
        "loading": {**loads, "weights_mb": weights, "our_peak_of_weights": round(peak, 3)},
        "loading_within": peak <= MAX_LOADING,
    }


def rounded(values: list[float]) -> list[float]:
    """To a tenth."""
    return [round(value, 2) for value in values]


def median_of(told: list[dict[str, Any]], name: str) -> float:
    """The median of a figure over rounds."""
    return round(float(statistics.median(each[name] for each in told)), 2)


def weights_mb(folder: Path, dtype: str) -> float:
    """What the checkpoint takes in the dtype, and the codec, which is stored in float32."""
    factor = {"bfloat16": 1, "float32": 2}[dtype]
    model = (folder / "model.safetensors").stat().st_size * factor
    codec = (folder / "speech_tokenizer" / "model.safetensors").stat().st_size
    return round((model + codec) / 1e6, 1)


def work(folder: str, dtype: str, threads: str) -> None:
    """Our worker: as ``time`` of ``published_qwen3``, from the first line to the last."""
    import tokenizers  # noqa: F401  (before the memory is looked at)
    import torch  # noqa: F401

    from vivavoce.engines.qwen3.engine import Qwen3Engine
    from vivavoce.engines.qwen3.options import Qwen3Options

    from .published_qwen3 import resident_mb, say

    asked = json.loads(sys.stdin.readline())
    stored: dict[str, Any] = {"dtype": dtype, "threads": int(threads)}
    options = Qwen3Options(model=folder, device="cpu", guards=False, **stored)
    engine = Qwen3Engine(options)
    before_mb, began_s = resident_mb("VmRSS"), time.perf_counter()
    engine.load()
    told = {"load_s": round(time.perf_counter() - began_s, 2), "before_mb": before_mb}
    # The rows' keys and values take memory as they are written; nothing is spoken yet.
    buffers_mb = round(engine.info.details["buffers_mb"] * 2**20 / 1e6, 1)
    say(sys.stdout, told | {"peak_mb": resident_mb("VmHWM"), "buffers_mb": buffers_mb})
    for line in sys.stdin:
        say(sys.stdout, timed(engine, asked, int(line)))


def timed(engine: Any, asked: dict[str, Any], frames: int) -> dict[str, Any]:
    """Milliseconds of one utterance, stepped to its end."""
    from vivavoce.types import Span, Utterance

    voice = next(each for each in engine.voices() if each.id == asked["speaker"])
    options = {"max_frames": frames}
    spoken = Utterance(
        (Span(asked["written"]),), voice, language=asked["language"], options=options
    )
    began_s = time.perf_counter()
    slot = engine.admit(spoken)
    codes = engine.record(slot)
    prompt_ms, first_chunk_ms, frame_ms, decode_ms = 0.0, 0.0, [], {}
    last = False
    while not last:
        step_began_s = time.perf_counter()
        produced = engine.step()
        now_s = time.perf_counter()
        if not produced:
            frame_ms.append((now_s - step_began_s) * 1000)
        for piece in produced:
            first_chunk_ms = first_chunk_ms or (now_s - began_s) * 1000
            prompt_ms += piece.stages_ms.get("prefill", 0.0)
            if chunk := len(piece.samples) // FRAME_SAMPLES:
                decode_ms[str(chunk)] = piece.stages_ms["codec"] / chunk
            last = piece.last
    return {
        "frames": len(codes),
        "prompt_ms": prompt_ms,
        "frame_ms": frame_ms,
        "whole_ms": (time.perf_counter() - began_s) * 1000,
        "first_chunk_ms": first_chunk_ms,
        "decode_ms": decode_ms,
    }


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    published_python(parser)
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=27)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try it")


def main(asked: argparse.Namespace) -> Result:
    """Measure each dtype."""
    report = {"model": MODEL, "seed": asked.seed, "text": TEXT, "threads": asked.threads}
    dtypes = measured(asked, asked.python)
    print(json.dumps(dtypes, indent=1))
    well = all(one["not_slower"] and one["loading_within"] for one in dtypes.values())
    return Result(report | {"dtypes": dtypes}, well=well, keep=not asked.tiny)
