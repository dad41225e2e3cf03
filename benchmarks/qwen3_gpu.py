"""Qwen3-TTS on a GPU: ``python benchmarks/qwen3_gpu.py [-o RESULT.json]``; no network needed.

Makes random checkpoints of true size (speech that does not end), then, for each model: captured
against eager codes in float32 and a row alone against a row in company; milliseconds a frame by
bucket in bf16, int8 and fp8 and their share of the memory's bandwidth; first sound; load runs by
a playback clock; memory. Predictions are written down before anything of it is measured. What
fails is noted as failed, and the rest goes on. ``--device cpu --tiny --seconds 5`` tries it all
where there is no GPU; its times mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vivavoce.bench.device import provenance
from vivavoce.bench.engine_load import EngineLoad
from vivavoce.bench.stats import spread
from vivavoce.errors import VivavoceError

BUCKETS = (1, 2, 4, 8, 12, 16, 24, 32, 64)
RATES_RPS = (1, 4, 10, 20)
CALLERS = 64
TEXT = "The quick brown fox jumps over the lazy dog, and nobody minds at all."
WEIGHT_BYTES = {
    "0.6B": {"none": 3.309e9, "int8": 1.655e9, "fp8": 1.655e9},
    "1.7B": {"none": 5.253e9, "int8": 2.627e9, "fp8": 2.627e9},
}
"""Read for one frame: the talker once, the code predictor's layers fifteen times."""

Told = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What is measured now."""

    folder: Path
    size: str
    device: str
    tiny: bool
    seconds: float

    @property
    def buckets(self) -> tuple[int, ...]:
        """Rows at a time."""
        return BUCKETS[:3] if self.tiny else BUCKETS

    def engine(self, *, rows: int, quantize: str = "none", **more: Any) -> Any:
        """A loaded engine."""
        from vivavoce.engines.qwen3 import create

        options = {
            "model": self.folder,
            "device": self.device,
            "capacity": rows,
            "positions": 1024,
            "guards": False,
            "quantize": quantize,
            **({"cuda_graphs": True} if self.device == "cuda" else {}),
            **more,
        }
        engine = create(options)
        engine.load()
        return engine


def main() -> int:
    """Measure, print, save."""
    args = _arguments()
    import torch

    report: Told = {"device": describe(args.device), "bandwidth_gb_s": None, "models": {}}
    report["bandwidth_gb_s"] = bandwidth_gb_s(torch.device(args.device), tiny=args.tiny)
    report["predicted"] = predictions(report["bandwidth_gb_s"], args.models)
    save(args.output, report)
    with tempfile.TemporaryDirectory() as made:
        for size in args.models:
            folder = checkpoint(size, args.checkpoints or Path(made), tiny=args.tiny)
            setting = Setting(folder, size, args.device, args.tiny, args.seconds)
            told = report["models"].setdefault(size, {})
            for name, value in measured(setting, args, report["bandwidth_gb_s"]):
                told[name] = value
                save(args.output, report)
    print_table(report)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny checkpoints, few buckets")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of a load run")
    parser.add_argument("--models", nargs="+", default=["0.6B", "1.7B"], choices=WEIGHT_BYTES)
    parser.add_argument("--precisions", nargs="+", default=["none", "int8", "fp8"])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--checkpoints", type=Path, help="keep the checkpoints here")
    parser.add_argument("-o", "--output", type=Path, default=Path("qwen3_gpu.json"))
    return parser.parse_args()


def describe(device: str) -> Told:
    """Where this runs."""
    import torch

    told: Told = {"on": device, **provenance()}
    if device == "cuda":
        told["gpu"] = torch.cuda.get_device_name()
        told["memory_mib"] = torch.cuda.get_device_properties(0).total_memory // 2**20
        query = "--query-gpu=clocks.sm,clocks.mem,power.limit"
        command = ("nvidia-smi", query, "--format=csv,noheader")
        told["clocks, power"] = subprocess.run(
            command, capture_output=True, text=True, check=False
        ).stdout
    return told


def bandwidth_gb_s(device: Any, *, tiny: bool) -> float:
    """What a large copy reads and writes in a second: the best of several."""
    import torch

    source = torch.ones((1 << 24) if tiny else (1 << 30), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = [timed(lambda: target.copy_(source), device, 4) for _ in range(5)]
    return round(2 * source.nbytes / min(times) / 1e9, 1)


def timed(work: Callable[[], Any], device: Any, rounds: int) -> float:
    """Seconds of one round."""
    import torch

    def settle() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    work()
    settle()
    began = time.perf_counter()
    for _ in range(rounds):
        work()
    settle()
    return (time.perf_counter() - began) / rounds


def predictions(bandwidth: float, models: list[str]) -> Told:
    """Before measuring: small matrices reach less of a fast memory than of a slow one.

    40 % of it over 2 TB/s, 55 % over 0.8 TB/s, 75 % below; int8 and fp8 a tenth less; one per cent
    more time for each row more. First sound: a prompt (half a frame), a frame, 2 ms of codec and
    1 ms of host. No underruns at all up to 20 calls a second.
    """
    share = 0.40 if bandwidth > 2000 else 0.55 if bandwidth > 800 else 0.75
    told: Told = {}
    for size in models:
        for name, size_bytes in WEIGHT_BYTES[size].items():
            floor_ms = size_bytes / bandwidth / 1e6
            frame_ms = floor_ms / (share if name == "none" else share * 0.9)
            told[f"{size} {name}"] = {
                "floor_ms": round(floor_ms, 3),
                "frame_ms": {rows: round(frame_ms * (0.99 + 0.01 * rows), 2) for rows in BUCKETS},
                "first_sound_ms": round(1.5 * frame_ms + 3.0, 1),
                "underruns": 0,
            }
    return told


def checkpoint(size: str, where: Path, *, tiny: bool) -> Path:
    """A random one that never ends by itself; one that is there already is used again."""
    from vivavoce.engines.qwen3.random_checkpoint import make_random_checkpoint

    folder = where / f"{size}{'-tiny' if tiny else ''}"
    if not (folder / "config.json").is_file():
        name = f"Qwen3-TTS-12Hz-{size}-CustomVoice"
        make_random_checkpoint(name, folder, tiny=tiny, eos_gain=0.0)
    return folder


def measured(setting: Setting, args: Any, bandwidth: float) -> Iterator[tuple[str, Told]]:
    """All parts, one after the other, as (name, result)."""
    if "correct" in args.parts:
        yield "correct", attempt(lambda: correctness(setting))
    for precision in args.precisions:
        if "frames" in args.parts:
            floor_ms = WEIGHT_BYTES[setting.size][precision] / bandwidth / 1e6
            floor = None if setting.tiny else floor_ms
            yield f"frames {precision}", attempt(partial(frames, setting, precision, floor))
        if "load" in args.parts:
            yield f"load {precision}", attempt(partial(loads, setting, precision))


PARTS = ("correct", "frames", "load")


def attempt(part: Callable[[], Told]) -> Told:
    """What a part tells, or why it tells nothing; its memory is given back either way."""
    began = time.perf_counter()
    try:
        told = part()
    except (VivavoceError, RuntimeError, ValueError, OSError) as error:
        told = {"failed": f"{type(error).__name__}: {error}"}
    release_memory()
    return {**told, "took_s": round(time.perf_counter() - began, 1)}


def release_memory() -> None:
    """Give unused memory back, so that the next part's is its own."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def correctness(setting: Setting) -> Told:
    """Codes in float32: captured against eager, and a row alone against a row in company."""
    most = max(setting.buckets)
    heard: dict[str, Told] = {}
    for name, graphs in (("captured", True), ("eager", False)):
        if graphs and setting.device == "cpu":
            continue  # nothing is captured there
        more = {"cuda_graphs": graphs} if setting.device == "cuda" else {}
        engine = setting.engine(rows=most, dtype="float32", **more)
        heard[name] = {str(rows): together(engine, rows) for rows in setting.buckets}
        engine.unload()
        del engine
        release_memory()
    eager = heard["eager"]
    told: Told = {"frames": 12, "greedy": True}
    alone = eager["1"][0]
    told["alone = in company"] = {rows: codes[0] == alone for rows, codes in eager.items()}
    if "captured" in heard:
        captured = heard["captured"]
        told["captured = eager"] = {rows: captured[rows] == eager[rows] for rows in eager}
    return told


def together(engine: Any, rows: int) -> list[list[list[int]]]:
    """Greedy codes of so many different texts at a time."""
    slots = [engine.admit(utterance(engine, 12, n, greedy=True)) for n in range(rows)]
    codes = [engine.record(slot) for slot in slots]
    live = set(slots)
    while live:
        live -= {produced.slot for produced in engine.step() if produced.last}
    return [[frame.tolist() for frame in each] for each in codes]


def utterance(engine: Any, frames: int, seed: int, *, greedy: bool = False) -> Any:
    """So many frames of something."""
    from vivavoce.types import Sampling, Span, Utterance

    sampling = Sampling() if greedy else Sampling(seed=seed)
    options = {"max_frames": frames, "guards": False} | ({"greedy": True} if greedy else {})
    spans = (Span(f"{seed}. {TEXT}"),)
    now_s = time.monotonic()
    voice = engine.voices()[0]
    return Utterance(spans, voice, sampling=sampling, options=options, deadline_s=now_s)


def frames(setting: Setting, precision: str, floor_ms: float | None) -> Told:
    """Milliseconds a frame by bucket, as a loop has them that reads one frame late."""
    import torch

    most = max(setting.buckets)
    dtype = "float32" if setting.device == "cpu" else "bfloat16"
    began = time.perf_counter()
    engine = setting.engine(rows=most, quantize=precision, dtype=dtype)
    told: Told = {"load_s": round(time.perf_counter() - began, 2), "ms": {}}
    rounds = 5 if setting.tiny else 60
    for rows in setting.buckets:
        told["ms"][str(rows)] = frame_ms(engine, rows, rounds)
    if floor_ms is not None:
        told["share_of_floor"] = {rows: round(floor_ms / ms, 3) for rows, ms in told["ms"].items()}
    told["first_sound_ms"] = first_sound_ms(engine, 3 if setting.tiny else 20)
    told["details"] = {name: str(value) for name, value in engine.info.details.items()}
    if setting.device == "cuda":
        told["allocated_mib"] = torch.cuda.memory_allocated() // 2**20
        told["peak_mib"] = torch.cuda.max_memory_allocated() // 2**20
        told["reserved_mib"] = torch.cuda.memory_reserved() // 2**20
    engine.unload()
    return told


def frame_ms(engine: Any, rows: int, rounds: int) -> float:
    """The median time from one frame of ``rows`` rows to the next, without sound."""
    from vivavoce.engines.qwen3.batch import Words
    from vivavoce.engines.qwen3.rows import RowOptions

    batch, config = engine._batch, engine._known()
    speaker = next(iter(config.talker.spk_id))
    for row in range(rows):
        words = Words([31, 7, 250, 611, 48], "english", speaker=speaker)
        batch.begin(row, words, RowOptions(seed=row, max_frames=900))
    flight, marks = batch.launch(rows), []
    for _ in range(rounds + 5):
        following = batch.launch(rows)
        flight.land()
        flight = following
        marks.append(time.perf_counter())
    flight.land()
    for row in range(rows):
        batch.release(row)
    gaps = np.diff(marks[5:]) * 1000
    return round(float(np.median(gaps)), 3)


def first_sound_ms(engine: Any, rounds: int) -> Told:
    """From ``admit`` to the first samples, one call at a time."""
    times = []
    for seed in range(rounds):
        began = time.perf_counter()
        slot = engine.admit(utterance(engine, 12, seed))
        while not any(len(p.samples) for p in engine.step()):
            pass
        times.append((time.perf_counter() - began) * 1000)
        engine.release(slot)
    return rounded(times)


def loads(setting: Setting, precision: str) -> Told:
    """Calls that come as they like, by rate; then callers who call again at once."""
    rows = 4 if setting.tiny else CALLERS
    dtype = "float32" if setting.device == "cpu" else "bfloat16"
    engine = setting.engine(rows=rows, quantize=precision, dtype=dtype)
    told: Told = {}
    for rate in RATES_RPS[:1] if setting.tiny else RATES_RPS:
        told[f"{rate} rps"] = load_on(engine).open_loop(rate, setting.seconds)
    told[f"{rows} callers"] = load_on(engine).closed_loop(rows, setting.seconds)
    engine.unload()
    return told


def load_on(engine: Any) -> EngineLoad:
    """Calls of 2 to 6 s, the same in every run."""
    return EngineLoad(engine, lambda number: utterance(engine, 25 + number * 37 % 51, number))


def rounded(values: list[float]) -> Told:
    """How they are spread."""
    return {name: round(value, 2) for name, value in spread(values).items()} if values else {}


def save(path: Path, report: Told) -> None:
    """Everything so far."""
    path.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def print_table(report: Told) -> None:
    """The short of it."""
    print(report["device"].get("gpu", report["device"]["on"]), f"{report['bandwidth_gb_s']} GB/s")
    for size, parts in report["models"].items():
        for name, told in parts.items():
            predicted = report["predicted"].get(f"{size} {name.split()[-1]}", {})
            print(f"{size:5} {name:12} " + _line(name, told, predicted))


def _line(name: str, told: Told, predicted: Told) -> str:
    if "failed" in told:
        return f"failed: {told['failed'][:120]}"
    if name.startswith("frames"):
        expected = predicted.get("frame_ms", {})
        cells = [f"{rows}: {ms} ({expected.get(int(rows))})" for rows, ms in told["ms"].items()]
        first = told["first_sound_ms"].get("p50")
        return f"ms a frame (predicted) {', '.join(cells)}; first sound {first} ms"
    if name.startswith("load"):
        runs = [(run, each) for run, each in told.items() if isinstance(each, dict)]
        return "; ".join(_run(run, each) for run, each in runs)
    return json.dumps({name: each for name, each in told.items() if isinstance(each, dict)})


def _run(name: str, told: Told) -> str:
    first, stalls = told["first_sound_ms"], told["underruns"]
    times = f"p50 {first.get('p50')} p95 {first.get('p95')} ms"
    return f"{name}: {times}, {stalls} underruns, {told['audio_s_per_s']} s/s"


if __name__ == "__main__":
    sys.exit(main())
