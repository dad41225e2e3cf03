"""NeuTTS in PyTorch: ``vivavoce bench recipe neutts_cuda``.

Random weights of the published sizes (needs the extra ``neutts-torch`` and the package ``gguf``).
For each model and precision: how near the scores are to float32 on the CPU, whether captured
graphs say what uncaptured work says, milliseconds a token by rows, milliseconds to the first
codes and to the first sound after prompts of two lengths, memory, and load and capture times.
Beside each time stands
its floor: the bytes a token must read over the bandwidth that a large copy reaches.

``--device cpu --tiny`` runs all of it in a minute with two-layer models, where graphs are played
by the recording stand-in; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vivavoce.engines.neutts.backbone import SPEECH_CODES, Prompt, TokenSampling
from vivavoce.engines.neutts.codec.stream import Codec
from vivavoce.engines.neutts.codec.torch_decoder import open_torch_codec
from vivavoce.engines.neutts.torch_backbone import TorchBackbone
from vivavoce.engines.neutts.torch_plan import TorchLmOptions
from vivavoce.runtime.graphs.api import GraphApi
from vivavoce.runtime.nn.decoder import ATTENTION
from vivavoce.testing.random_lm import RandomLm, make_random_lm
from vivavoce.testing.random_neucodec import make_random_codec
from vivavoce.testing.recorded_graphs import RecordingGraphs

from .turns import Result

CODES_PER_S = 50
FIRST_CODES = 8 + 5  # the first piece of sound and what the codec looks ahead
LOOK_BACK = 25
ROUNDS = 5
GREEDY = TokenSampling(greedy=True, min_tokens=10_000)


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    device: str
    tiny: bool
    context: int
    rows: tuple[int, ...]
    prompts: tuple[int, ...]
    tokens: int


def plan_of(device: str, *, tiny: bool) -> Plan:
    """Prompts as a 3.5 s and a 13 s reference make them, or small ones."""
    if tiny:
        return Plan(device, True, 512, (1, 2, 4), (60, 200), 8)
    rows = (1, 2, 4, 8, 16) if device.startswith("cuda") else (1, 2, 4)
    return Plan(device, False, 2048, rows, (400, 940), 64 if device.startswith("cuda") else 16)


def measure(name: str, folder: Path, plan: Plan, dtype: str, codec: Codec) -> dict[str, Any]:
    """Everything about one model in one precision."""
    reset_peak(plan.device)
    backbone = open_backbone(folder, plan, dtype=dtype, capacity=max(plan.rows))
    floor = bytes_per_token(backbone)
    figures = {
        "model": name,
        "dtype": dtype,
        "details": dict(backbone.details),
        "memory_mib": memory_mib(plan.device),
        "floor_mib_per_token": round(floor / 2**20, 1),
        "ms_per_token": {
            f"{rows} rows, at {prompt}": token_ms(backbone, plan, rows, prompt)
            for prompt in plan.prompts
            for rows in plan.rows
        },
        "first_codes_ms": {str(prompt): first_ms(backbone, prompt) for prompt in plan.prompts},
        "first_sound_ms": {str(n): first_ms(backbone, n, codec) for n in plan.prompts},
        "captured_is_eager": captured_is_eager(folder, plan, dtype),
    }
    backbone.unload()
    return figures


def open_backbone(
    folder: Path, plan: Plan, graphs: GraphApi | None = None, **options: Any
) -> TorchBackbone:
    """A loaded backbone on the plan's device."""
    if graphs is None and plan.tiny and plan.device == "cpu":
        graphs = RecordingGraphs()
    given = {"device": plan.device, "context_tokens": plan.context, **options}
    backbone = TorchBackbone(folder, TorchLmOptions(**given), graphs)
    backbone.load()
    return backbone


def uncaptured() -> GraphApi:
    """The shapes of graphs without graphs: what differs then is capturing alone."""
    return RecordingGraphs(refuses=lambda name: True)


def prompt_of(backbone: TorchBackbone, length: int) -> Prompt:
    """A prompt of ``length`` tokens that ends in reference codes."""
    vocabulary = backbone.vocabulary
    head = vocabulary.header_ids + vocabulary.tokenize("maɪ nˈeɪm ɪz ˈændi.")
    head += vocabulary.middle_ids
    codes = [(7 + 1_237 * number) % SPEECH_CODES for number in range(length - len(head))]
    return Prompt(head + vocabulary.speech_ids(codes))


def token_ms(backbone: TorchBackbone, plan: Plan, rows: int, prompt: int) -> float:
    """Milliseconds a step in which ``rows`` rows all speak, after a prompt of ``prompt``."""
    made = dict.fromkeys(
        [
            backbone.admit(prompt_of(backbone, prompt), TokenSampling(seed=n, min_tokens=9999), 999)
            for n in range(rows)
        ],
        0,
    )
    while min(made.values()) < 2:
        for emitted in backbone.step():
            made[emitted.row] += len(emitted.codes)
    spent = []
    for _ in range(ROUNDS):
        wait(plan.device)
        began_s = time.perf_counter()
        for _ in range(plan.tokens):
            backbone.step()
        wait(plan.device)
        spent.append((time.perf_counter() - began_s) * 1000 / plan.tokens)
    for row in made:
        backbone.release(row)
    backbone.step()
    return round(statistics.median(spent), 3)


def first_ms(backbone: TorchBackbone, prompt: int, codec: Codec | None = None) -> float:
    """Milliseconds from a prompt to the codes of the first piece of sound, or to its sound."""
    spent = []
    for seed in range(ROUNDS):
        given, made = prompt_of(backbone, prompt), [0] * LOOK_BACK
        began_s = time.perf_counter()
        row = backbone.admit(given, TokenSampling(seed=seed, min_tokens=9999), 999)
        while len(made) < LOOK_BACK + FIRST_CODES:
            for emitted in backbone.step():
                made += emitted.codes.tolist()
        if codec is not None:
            codec.decode(np.array(made[: LOOK_BACK + FIRST_CODES], np.int32))
        spent.append((time.perf_counter() - began_s) * 1000)
        backbone.release(row)
        backbone.step()
    return round(statistics.median(spent), 2)


def open_codec(plan: Plan) -> Codec:
    """A decoder with random weights on the same device."""
    device: Any = plan.device.partition(":")[0]
    with tempfile.TemporaryDirectory() as folder:
        path = make_random_codec(Path(folder) / "model.safetensors", tiny=plan.tiny)
        return open_torch_codec(path, device=device)


def captured_is_eager(folder: Path, plan: Plan, dtype: str) -> bool:
    """Whether graphs give the codes that uncaptured work gives (three rows, three samplers)."""
    said = []
    for graphs in (uncaptured(), None):
        backbone = open_backbone(folder, plan, graphs, dtype=dtype, capacity=4)
        said.append(three_rows(backbone, plan))
        backbone.unload()
    return said[0] == said[1]


def three_rows(backbone: TorchBackbone, plan: Plan) -> list[list[int]]:
    """Codes of three rows that speak together."""
    samplings = (GREEDY, TokenSampling(seed=1), TokenSampling(seed=2, top_k=0, temperature=0.8))
    prompt = prompt_of(backbone, plan.prompts[0])
    said: dict[int, list[int]] = {
        backbone.admit(prompt, sampling, plan.tokens): [] for sampling in samplings
    }
    open_rows = set(said)
    while open_rows:
        for emitted in backbone.step():
            said[emitted.row] += emitted.codes.tolist()
            open_rows -= {emitted.row} if emitted.last else set()
    return list(said.values())


def exactness(folder: Path, plan: Plan, dtypes: tuple[str, ...]) -> dict[str, Any]:
    """Scores after a prompt against those of float32 on the CPU, uncaptured."""
    wide = Plan("cpu", plan.tiny, plan.context, (1,), plan.prompts, plan.tokens)
    reference = scores_of(open_backbone(folder, wide, uncaptured(), dtype="float32"), plan)
    found: dict[str, Any] = {}
    for dtype in ("float32", *dtypes):
        for attention in ATTENTION:
            backbone = open_backbone(folder, plan, dtype=dtype, attention=attention, capacity=1)
            scores = scores_of(backbone, plan)
            backbone.unload()
            near = torch.cosine_similarity(scores.double(), reference.double(), 0)
            found[f"{dtype}, {attention}"] = {
                "cosine": round(float(near), 7),
                "largest_agrees": bool(scores.argmax() == reference.argmax()),
            }
    return found


def scores_of(backbone: TorchBackbone, plan: Plan) -> torch.Tensor:
    """What follows the longest prompt."""
    row = backbone.admit(prompt_of(backbone, plan.prompts[-1]), GREEDY, 1)
    while not any(emitted.row == row and emitted.last for emitted in backbone.step()):
        pass
    return backbone.scores(row).float().cpu()


def bytes_per_token(backbone: TorchBackbone) -> int:
    """What one step must read at least: every weight but the embedding table."""
    return int(backbone.details["weights_read_bytes"])


def bandwidth_gb_s(device: str) -> float:
    """Bytes read and written a second by copying a large tensor."""
    size = 1 << (30 if device.startswith("cuda") else 27)
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    spent = []
    for _ in range(ROUNDS):
        wait(device)
        began_s = time.perf_counter()
        target.copy_(source)
        wait(device)
        spent.append(time.perf_counter() - began_s)
    return round(2 * size / min(spent) / 1e9, 1)


def wait(device: str) -> None:
    """Until the device has done all it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def reset_peak(device: str) -> None:
    """Count the device's memory anew."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()


def memory_mib(device: str) -> dict[str, int]:
    """The largest memory so far: of the process (Linux), and of the GPU while loading."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    found = {"resident_peak": round(int(line.split()[1]) / 1024)}
    if device.startswith("cuda"):
        found["gpu_peak"] = torch.cuda.max_memory_reserved() // 2**20
    return found


def environment(device: str) -> dict[str, Any]:
    """Where these figures come from."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    cuda = device.startswith("cuda")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if cuda else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bandwidth_gb_s": bandwidth_gb_s(device),
    }


def show(results: dict[str, Any]) -> None:
    """The figures as text."""
    where = results["environment"]
    print(f"{where['device']}, torch {where['torch']}, {where['bandwidth_gb_s']} GB/s copied")
    for run in results["runs"]:
        details, floor_ms = run["details"], run["floor_mib_per_token"] * 2**20 / 1e6
        floor_ms /= where["bandwidth_gb_s"]
        print(f"\n{run['model']}, {run['dtype']}: floor {floor_ms:.3f} ms a token")
        print(f"  captured = eager: {run['captured_is_eager']}; memory {run['memory_mib']} MiB")
        print(f"  load {details['load_s']} s, capture {details['capture_s']} s", end=", ")
        print(f"{details['graphs']} graphs")
        for what, spent_ms in run["ms_per_token"].items():
            rows = int(what.split()[0])
            times = rows * 1000 / spent_ms / CODES_PER_S
            print(f"  {what:>22}: {spent_ms:8.3f} ms a step, {times:7.1f} x real time in all")
        for prompt, spent_ms in run["first_codes_ms"].items():
            sound_ms = run["first_sound_ms"][prompt]
            print(f"  {FIRST_CODES} codes after a prompt of {prompt}: {spent_ms} ms", end="")
            print(f", their sound: {sound_ms} ms")
    for name, found in results["exactness"].items():
        print(f"\n{name}: scores beside float32 on the CPU")
        for what, near in found.items():
            print(f"  {what:>24}: cosine {near['cosine']}, largest {near['largest_agrees']}")


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--models", nargs="+", default=["neutts-air", "neutts-nano"])


def main(asked: argparse.Namespace) -> Result:
    """Each model on the device."""
    if asked.threads:
        torch.set_num_threads(asked.threads)
    plan = plan_of(asked.device, tiny=asked.tiny)
    dtypes = ("bfloat16",)
    results: dict[str, Any] = {"environment": environment(plan.device), "runs": []}
    results["exactness"] = {}
    codec = open_codec(plan)
    for name in asked.models:
        with tempfile.TemporaryDirectory() as folder:
            stored = RandomLm(name, small=plan.tiny, dtype="BF16", end_every=0)
            made = make_random_lm(stored, folder)
            for dtype in dtypes:
                results["runs"].append(measure(name, made, plan, dtype, codec))
            results["exactness"][name] = exactness(made, plan, dtypes)
    show(results)
    return Result(results)
