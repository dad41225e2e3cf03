"""What quantised weights cost and give on a CPU: ``python benchmarks/qwen3_quantised.py``

Random weights of the published size. Every variant is in memory at once and all are timed in turn,
round by round: a frame of 80 ms (talker, code predictor, sampling; no codec) by number of rows.
"int4" is what 4 bits in groups of 32 would give through PyTorch's own kernel; the engine does not
offer it. The error is that of teacher-forced frames of random codes: cosine and top-1 agreement of
the talker's scores and the code predictor's fifteen with those of float32.

Writes benchmarks/results/qwen3_quantised.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

HERE = Path(__file__).parent
MODEL = "Qwen3-TTS-12Hz-0.6B-CustomVoice"
VARIANTS = {
    "float32": (torch.float32, ""),
    "bfloat16": (torch.bfloat16, ""),
    "int8": (torch.float32, "int8"),
    "int4": (torch.bfloat16, "int4"),
}
TEXT_TOKENS = 10
PROMPT = 100
GROUP = 32
SHORTLIST = 64


def main() -> None:
    """Load every variant, time them in turn, compare their scores, write the report."""
    from vivavoce.bench.device import provenance
    from vivavoce.engines.qwen3.random_checkpoint import make_random_checkpoint

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=6, help="frames of each round")
    parser.add_argument("--forced", type=int, default=12, help="teacher-forced frames")
    parser.add_argument("--checkpoint", type=Path, help="made before, instead of a random one")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script")
    output = HERE / "results" / "qwen3_quantised.json"
    parser.add_argument("--output", type=Path, default=output)
    chosen = parser.parse_args()
    if chosen.tiny:  # whose rows are no whole groups
        chosen.variants = [name for name in chosen.variants if name != "int4"]
    torch.set_num_threads(chosen.threads)
    report: dict[str, Any] = provenance()
    report |= {"model": chosen.model, "threads": chosen.threads, "tiny": chosen.tiny}
    with tempfile.TemporaryDirectory() as name:
        folder = chosen.checkpoint or make_random_checkpoint(
            chosen.model, Path(name) / chosen.model, tiny=chosen.tiny, eos_gain=0
        )
        variants = [Variant.load(each, folder) for each in chosen.variants]
    print("loaded", flush=True)
    report["weights_mb"] = {each.name: each.weights_bytes() // 2**20 for each in variants}
    report["frame_ms"] = timed(variants, chosen)
    report["against_float32"] = errors(variants, chosen.forced)
    print(json.dumps(report, indent=1))
    if not chosen.tiny:
        chosen.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


@dataclass(frozen=True)
class Variant:
    """One talker with its weights in one form."""

    name: str
    dtype: torch.dtype
    config: Any
    talker: Any

    @classmethod
    def load(cls, name: str, folder: Path) -> Variant:
        """Read the talker of a checkpoint and quantise it."""
        from vivavoce.engines.kernels.weights import Precision
        from vivavoce.engines.qwen3.checkpoint import open_checkpoint
        from vivavoce.engines.qwen3.model import load_talker

        checkpoint = open_checkpoint(folder)
        dtype, kind = VARIANTS[name]
        precision = Precision.INT8 if kind == "int8" else Precision.NONE
        talker = load_talker(checkpoint, dtype, torch.device("cpu"), precision)
        if kind == "int4":
            to_int4(talker)
        gc.collect()
        return cls(name, dtype, checkpoint.config, talker)

    def rows(self, count: int, positions: int) -> Any:
        """Fresh rows."""
        from vivavoce.engines.qwen3.rows import Rows

        like = torch.zeros(1, dtype=self.dtype)
        return Rows(self.config.talker, count, positions, like)

    def weights_bytes(self) -> int:
        """Memory of the talker and the code predictor, embeddings included (int4: not known)."""
        from vivavoce.engines.layers.linear import quantised_bytes

        floats = sum(tensor.nbytes for tensor in self.talker.state_dict().values())
        return floats + quantised_bytes(self.talker)


def timed(variants: list[Variant], chosen: argparse.Namespace) -> dict[str, Any]:
    """Median and least milliseconds a frame, by rows and variant."""
    found: dict[str, Any] = {}
    for rows in chosen.rows:
        times: dict[str, list[float]] = {each.name: [] for each in variants}
        running = {each.name: running_rows(each, rows) for each in variants}
        for _ in range(chosen.rounds):
            for each in variants:
                step = running[each.name]
                step()
                times[each.name] += [step() for _ in range(chosen.frames)]
        found[str(rows)] = {
            name: {"median": round(statistics.median(ms), 1), "least": round(min(ms), 1)}
            for name, ms in times.items()
        }
        print(rows, found[str(rows)], flush=True)
    return found


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


def errors(variants: list[Variant], frames: int) -> dict[str, Any]:
    """Cosine (mean and least) and top-1 agreement with float32 of each variant's scores."""
    by_name = {each.name: each for each in variants}
    if "float32" not in by_name:
        return {}
    codes = torch.randint(0, 2048, (frames, 16), generator=torch.Generator().manual_seed(1))
    wanted = scores(by_name.pop("float32"), codes)
    found = {}
    for name, variant in by_name.items():
        given = scores(variant, codes)
        found[name] = {part: agreement(given[part], wanted[part]) for part in wanted}
    return found


def agreement(given: Tensor, wanted: Tensor) -> dict[str, float]:
    """Of scores [..., V]."""
    cosine = nn.functional.cosine_similarity(given, wanted, -1)
    same = (given.argmax(-1) == wanted.argmax(-1)).float().mean()
    return {
        "cosine": round(float(cosine.mean()), 6),
        "least_cosine": round(float(cosine.min()), 6),
        "top1": round(float(same), 4),
    }


@torch.no_grad()
def scores(variant: Variant, codes: Tensor) -> dict[str, Tensor]:
    """``talker`` [T, 3072] and ``predictor`` [T, 15, 2048] under the given codes, float32."""
    from vivavoce.engines.qwen3.frame import FrameIds, frame
    from vivavoce.engines.qwen3.prompt import Speaking, embed, plan
    from vivavoce.engines.qwen3.rows import RowOptions
    from vivavoce.engines.qwen3.sampling import SamplerOptions

    config, talker = variant.config, variant.talker
    speaking = Speaking(list(range(1000, 1000 + TEXT_TOKENS)), "english", "ryan")
    laid = plan(config, speaking)
    span = len(laid.rows) + len(codes) + 1
    rows = variant.rows(1, span)
    plain = SamplerOptions(temperature=1.0, top_k=0, top_p=1.0)
    hidden = rows.prefill(talker, 0, embed(talker, laid.rows, speaking))
    options = RowOptions(plain, plain, repetition_penalty=1.0)
    rows.admit(0, hidden, len(laid.rows), laid.trailing, options)
    first, rest = [], []
    for forced in codes:
        scored: list[Tensor] = []

        def draw(
            found: Tensor, group: int, forced: Tensor = forced, scored: list[Tensor] = scored
        ) -> Tensor:
            scored.append(found[0].float())
            return forced[group : group + 1]

        frame(talker, rows.state, FrameIds.of(config), span, draw)
        first.append(talker.codec_head(rows.state.hidden)[0].float())
        rest.append(torch.stack(scored[1:]))
    return {"talker": torch.stack(first), "predictor": torch.stack(rest)}


class Int4:
    """4 bits in groups of 32, symmetric, bfloat16 activations."""

    def __init__(self, weight: Tensor) -> None:
        self.shape = outputs, inputs = weight.shape
        grouped = weight.detach().float().view(outputs, -1, GROUP)
        scales = grouped.abs().amax(-1).clamp(min=1e-12) / 7
        steps = (grouped / scales[..., None]).round().clamp(-8, 7) + 8
        whole = steps.view(outputs, inputs).to(torch.int32)
        self._packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(whole, 1)
        pairs = torch.stack((scales, torch.zeros_like(scales)), -1).transpose(0, 1)
        self._scales = pairs.contiguous().bfloat16()

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, self.shape[1])
        out = torch.ops.aten._weight_int4pack_mm_for_cpu(flat, self._packed, GROUP, self._scales)
        return out.view(*x.shape[:-1], self.shape[0])


class Int4Linear(nn.Module):
    """In the place of a map."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self._matrix = Int4(weight)

    def forward(self, x: Tensor) -> Tensor:
        return self._matrix(x)


def to_int4(talker: nn.Module) -> None:
    """Swap what the engine would quantise."""
    from vivavoce.engines.layers.linear import Joining, Linear

    for module in list(talker.modules()):
        if isinstance(module, Joining):
            module.joined = Int4(module.joined)
            for part in module.parts():
                part.weight = None
    for owner in list(talker.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, Linear) and name != "codec_head" and child.weight is not None:
                setattr(owner, name, Int4Linear(child.weight))


if __name__ == "__main__":
    main()
