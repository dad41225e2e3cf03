"""What quantized weights cost and give on a CPU: ``vivavoce bench recipe qwen3_quantized``

Random weights of the published size. Each part replaces its own figures in
benchmarks/results/qwen3_quantized.json and leaves the others:

beside    the whole engine with int8 weights, in bfloat16, and the published package in bfloat16,
          asked in turn: milliseconds a frame without the codec, most memory while loading
rows      every form in one process, timed in turn, by number of rows: talker, code predictor and
          sampling; "int4" is what 4 bits in groups of 32 would give through PyTorch's own kernel
errors    cosine and top-1 agreement of the scores of teacher-forced frames with those of bfloat16
          and of float32, as quantized for a GPU (weights only), for a CPU (activations too), in 4
          bits, and by bitsandbytes' LLM.int8()
outliers  the same, with six channels of every norm 20 times as large

``beside`` needs QWEN_TTS_PYTHON, an interpreter with qwen-tts 0.1.1; LLM.int8() needs bitsandbytes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from .quantized_scores import agreement, random_codes, scores
from .quantized_variants import FORMS, Variant
from .qwen3_beside_official import LANGUAGE, MODEL, PUBLISHED, SPEAKER, TEXT, Worker, timed
from .turns import Result, worker_command

TIMED = ("float32", "bfloat16", "int8", "int4", "llm_int8")
ROWS = {"llm_int8": (1,)}
"""Forms that are only timed with so many rows."""
PROMPT = 100
SHORTLIST = 64


def make(within: Path, chosen: argparse.Namespace) -> Path:
    """A checkpoint that never ends its speech."""
    from vivavoce.testing.random_qwen3 import make_random_checkpoint

    folder: Path = make_random_checkpoint(
        chosen.model, within / chosen.model, tiny=chosen.tiny, eos_gain=0
    )
    return folder


def beside(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Three processes, asked in turn."""
    from vivavoce.engines.qwen3.tokenizer import TextTokenizer

    python = os.environ.get("QWEN_TTS_PYTHON")
    if not python:
        raise SystemExit("QWEN_TTS_PYTHON names no interpreter with qwen-tts")
    asked = {"text": TextTokenizer.load(folder).encode(TEXT), "written": TEXT}
    asked |= {"speaker": SPEAKER, "language": LANGUAGE}
    threads, ours = str(chosen.threads), worker_command("qwen3_quantized", folder)
    commands = {
        "int8": [*ours, "auto", "int8", threads],
        "bfloat16": [*ours, "bfloat16", "none", threads],
        "published_bfloat16": [python, str(PUBLISHED), "time", str(folder), "bfloat16", threads],
    }
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(command, asked)) for name, command in commands.items()
        }
        rounds: dict[str, list[float]] = {name: [] for name in workers}
        for worker in workers.values():
            worker.speak(3)
        for _ in range(chosen.rounds):
            for name, worker in workers.items():
                told = worker.speak(chosen.frames)
                rounds[name].append(round(statistics.median(told["frame_ms"]), 1))
        loads = {name: worker.loaded for name, worker in workers.items()}
    pairs = list(zip(rounds["int8"], rounds["published_bfloat16"], strict=True))
    return {
        "frames": chosen.frames,
        "frame_ms": {
            name: {"median": round(statistics.median(each), 1), "rounds": each}
            for name, each in rounds.items()
        },
        "int8_of_published": round(statistics.median(a / b for a, b in pairs), 3),
        "loading": loads,
        "load_average_after": round(os.getloadavg()[0], 2),
    }


def work(folder: str, dtype: str, quantize: str, threads: str) -> None:
    """One of our processes: the lines of ``qwen3_beside_official.work``."""
    import tokenizers  # noqa: F401  (before the memory is looked at)

    from vivavoce.engines.qwen3.engine import Qwen3Engine
    from vivavoce.engines.qwen3.options import Qwen3Options

    from .published_qwen3 import resident_mb, say

    asked = json.loads(sys.stdin.readline())
    options: dict[str, Any] = {"dtype": dtype, "quantize": quantize, "threads": int(threads)}
    engine = Qwen3Engine(Qwen3Options(model=folder, device="cpu", guards=False, **options))
    before_mb, began_s = resident_mb("VmRSS"), time.perf_counter()
    engine.load()
    told = {"load_s": round(time.perf_counter() - began_s, 2), "before_mb": before_mb}
    weights_mb = round(engine.info.details["weights_mb"] * 2**20 / 1e6, 1)
    told |= {"peak_mb": resident_mb("VmHWM"), "weights_mb": weights_mb}
    peak = (told["peak_mb"] - before_mb) / weights_mb
    say(sys.stdout, told | {"peak_of_weights": round(peak, 3)})
    for line in sys.stdin:
        say(sys.stdout, timed(engine, asked, int(line)))


def by_rows(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Median and least milliseconds a frame, by rows and form; memory of each."""
    variants = [Variant.load(name, folder) for name in chosen.forms if name in TIMED]
    found: dict[str, Any] = {
        "weights_mb": {each.name: round(each.weights_bytes() / 1e6) for each in variants},
        "frame_ms": {},
    }
    for rows in chosen.rows:
        running = {
            each.name: running_rows(each, rows)
            for each in variants
            if rows in ROWS.get(each.name, chosen.rows)
        }
        times: dict[str, list[float]] = {name: [] for name in running}
        for _ in range(chosen.rounds):
            for name, step in running.items():
                step()
                times[name] += [step() for _ in range(chosen.frames // 3)]
        found["frame_ms"][str(rows)] = {
            name: {"median": round(statistics.median(ms), 1), "least": round(min(ms), 1)}
            for name, ms in times.items()
        }
        print(rows, found["frame_ms"][str(rows)], file=sys.stderr, flush=True)
    return found | {"load_average_after": round(os.getloadavg()[0], 2)}


@torch.no_grad()
def running_rows(variant: Variant, count: int) -> Callable[[], float]:
    """Rows in the midst of speech; calling it makes one more frame and gives its milliseconds."""
    from vivavoce.engines.qwen3.frame import FrameIds, frame
    from vivavoce.engines.qwen3.rows import RowOptions

    rows = variant.rows(count, 256)
    for row in range(count):
        hidden = torch.randn(variant.config.talker.hidden_size).to(variant.dtype)
        rows.admit(row, hidden, PROMPT, list(range(20)), RowOptions(seed=row))
    ids = FrameIds.of(variant.config)

    def step() -> float:
        began_s = time.perf_counter()
        frame(variant.talker, rows.state, ids, 160, most=SHORTLIST)
        return (time.perf_counter() - began_s) * 1000

    step()
    return step


def errors(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """The scores of every form, one in memory at a time, against both float ones."""
    codes = random_codes(chosen.frames)
    found = {}
    for name in dict.fromkeys(("float32", "bfloat16", *chosen.forms)):
        found[name] = scores(Variant.load(name, folder, outliers=chosen.part == "outliers"), codes)
        gc.collect()
        print("scored", name, file=sys.stderr, flush=True)
    told: dict[str, Any] = {"forced_frames": chosen.frames}
    for wanted in ("bfloat16", "float32"):
        told[f"against_{wanted}"] = {
            name: {part: agreement(each[part], found[wanted][part]) for part in each}
            for name, each in found.items()
            if name != wanted
        }
    return told


PARTS = {"beside": beside, "rows": by_rows, "errors": errors, "outliers": errors}


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--part", choices=PARTS, default="beside")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--frames", type=int, default=12, help="frames of each round")
    parser.add_argument("--checkpoint", type=Path, help="made before, instead of a random one")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try it")


def main(asked: argparse.Namespace) -> Result:
    """Make or take a checkpoint and measure one part; the others stay as they were found before."""
    from vivavoce.bench.device import provenance

    told = provenance()
    torch.set_num_threads(asked.threads)
    left_out = {"int4"} if asked.tiny else set()  # whose rows are no whole groups
    left_out |= set() if find_spec("bitsandbytes") else {"llm_int8"}
    asked.forms = [name for name in asked.forms if name not in left_out]
    with tempfile.TemporaryDirectory() as name:
        folder = asked.checkpoint or make(Path(name), asked)
        found = PARTS[asked.part](folder, asked)
    part = told | {"model": asked.model, "threads": asked.threads} | found
    print(json.dumps(part, indent=1))
    before = json.loads(asked.json.read_text("utf-8")) if asked.json.is_file() else {}
    parts = {name: before[name] for name in PARTS if name in before}
    return Result(parts | {asked.part: part}, keep=not asked.tiny)
