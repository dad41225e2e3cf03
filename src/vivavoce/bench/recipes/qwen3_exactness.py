"""Our scores beside the published package's at true size: ``vivavoce bench recipe qwen3_exactness``

Random weights of the published sizes, fp32, on a CPU. Sixteen frames of random codes are
teacher-forced through our frame step and through the published modules; of every frame the talker's
scores and the code predictor's fifteen are compared. QWEN_TTS_PYTHON names an interpreter with
qwen-tts 0.1.1 (tests/interop/qwen_tts/test_parity.py says how to make one). One model is in memory
at a time; the largest takes 8 GB, its checkpoint 4.5 GB of disk in the temporary folder.

Writes benchmarks/results/qwen3_exactness.json; the exit status says whether all agreed.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .turns import HERE, Result, published_python

PUBLISHED = HERE / "published_qwen3.py"
MODELS = ("Qwen3-TTS-12Hz-0.6B-CustomVoice", "Qwen3-TTS-12Hz-1.7B-CustomVoice")
FRAMES = 16
TEXT_TOKENS = 10
SPEAKER, LANGUAGE = "ryan", "english"
MIN_COSINE = 0.99999

Scores = dict[str, NDArray[np.float32]]
"""``first`` [T, 3072] of the talker, ``rest`` [T, 15, 2048] of the code predictor."""


@dataclass(frozen=True)
class Asked:
    """What to compare."""

    model: str
    seed: int = 0
    tiny: bool = False
    frames: int = FRAMES

    def given(self) -> dict[str, Any]:
        """The same text and codes for both."""
        drawn = np.random.default_rng(self.seed)
        return {
            "text": drawn.integers(0, 151_643, TEXT_TOKENS),
            "codes": drawn.integers(0, 2048, (self.frames, 16)),
            "speaker": SPEAKER,
            "language": LANGUAGE,
        }


def compare(asked: Asked, python: str) -> dict[str, Any]:
    """Make a checkpoint, score it with both, and delete it."""
    from vivavoce.testing.random_qwen3 import make_random_checkpoint

    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / asked.model
        make_random_checkpoint(asked.model, folder, tiny=asked.tiny, seed=asked.seed)
        ours = our_scores(folder, asked.given())
        gc.collect()
        theirs, versions = their_scores(folder, asked.given(), python)
    return {
        "model": asked.model,
        "tiny": asked.tiny,
        "seed": asked.seed,
        "published": versions,
        **differences(ours, theirs),
        "took_s": round(time.monotonic() - began_s, 1),
    }


def our_scores(folder: Path, given: dict[str, Any]) -> Scores:
    """The product's own frame step, its draws replaced by the given codes."""
    import torch

    from vivavoce.engines.qwen3.checkpoint import open_checkpoint
    from vivavoce.engines.qwen3.frame import FrameIds, frame
    from vivavoce.engines.qwen3.prompt import PromptInputs, embed, plan
    from vivavoce.engines.qwen3.rows import RowOptions, Rows
    from vivavoce.engines.qwen3.talker import Talker
    from vivavoce.runtime.nn.sampling import SamplerOptions

    checkpoint = open_checkpoint(folder)
    config, codes = checkpoint.config, torch.from_numpy(given["codes"])
    with torch.device("meta"):
        talker = Talker(config.talker)
    checkpoint.load_into(talker, "talker.", dtype=torch.float32)
    speaking = PromptInputs(given["text"].tolist(), given["language"], given["speaker"])
    laid = plan(config, speaking)
    span = len(laid.rows) + len(codes) + 1
    rows = Rows(config.talker, 1, span, talker.codec_head.weight)
    plain = SamplerOptions(temperature=1.0, top_k=0, top_p=1.0)
    options = RowOptions(plain, plain, repetition_penalty=1.0)
    hidden = rows.prefill(talker, 0, embed(talker, laid.rows, speaking))
    rows.admit(0, hidden, len(laid.rows), laid.trailing, options)
    first, rest = [], []
    for forced in codes:
        scored: list[Any] = []

        def draw(scores: Any, group: int, forced: Any = forced, scored: Any = scored) -> Any:
            scored.append(scores[0])
            return forced[group : group + 1]

        frame(talker, rows.state, FrameIds.of(config), span, draw)
        first.append(talker.codec_head(rows.state.hidden)[0].detach())
        rest.append(torch.stack(scored[1:]))
    return {"first": torch.stack(first).numpy(), "rest": torch.stack(rest).numpy()}


def their_scores(folder: Path, given: dict[str, Any], python: str) -> tuple[Scores, dict[str, str]]:
    """The same of the published package, in a process of its own; and its versions."""
    asked, answer = folder.parent / "given.npz", folder.parent / "scores.npz"
    np.savez(asked, **given)
    command = [python, str(PUBLISHED), "scores", str(folder), str(asked), str(answer)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"qwen-tts failed:\n{ran.stderr[-3000:]}")
    with np.load(answer) as scores:
        return dict(scores), json.loads(ran.stdout)["versions"]


def differences(ours: Scores, theirs: Scores) -> dict[str, Any]:
    """For each frame the talker's cosine and the lowest of the predictor's; top-1 agreement."""
    told: dict[str, Any] = {"frames": len(ours["first"])}
    for name, part in (("talker", "first"), ("code_predictor", "rest")):
        a, b = (side[part].astype(np.float64) for side in (ours, theirs))
        if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise RuntimeError(f"scores of {a.shape} and {b.shape}, or not finite")
        cosine = (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
        same = a.argmax(-1) == b.argmax(-1)
        by_frame = cosine.reshape(len(a), -1).min(1)
        told[name] = {
            "compared": int(same.size),
            "min_cosine": float(by_frame.min()),
            "top1_agreement": float(same.mean()),
            "max_abs_difference": float(np.abs(a - b).max()),
            "scores_std": float(b.std()),
            "min_cosine_by_frame": by_frame.tolist(),
        }
    return told


def agrees(found: dict[str, Any]) -> bool:
    """Whether a comparison is good enough."""
    parts = (found["talker"], found["code_predictor"])
    return all(part["min_cosine"] >= MIN_COSINE and part["top1_agreement"] == 1.0 for part in parts)


def table(found: dict[str, Any]) -> str:
    """1 - cosine of every frame, for a reader."""
    parts = (found["talker"], found["code_predictor"])
    lines = [f"{found['model']}{' (tiny)' if found['tiny'] else ''}, seed {found['seed']}"]
    lines.append("frame   1 - cosine: talker   predictor (worst of 15)")
    columns = [part["min_cosine_by_frame"] for part in parts]
    for number, (talker, predictor) in enumerate(zip(*columns, strict=True)):
        lines.append(f"{number:5d} {1 - talker:20.2e} {1 - predictor:15.2e}")
    lines.append("top-1 " + "".join(f"{part['top1_agreement']:>16.1%}" for part in parts))
    lines.append("agrees" if agrees(found) else "DOES NOT AGREE")
    return "\n".join(lines)


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    published_python(parser)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try it")


def main(asked: argparse.Namespace) -> Result:
    """Compare, print a table each."""
    models = []
    for model in asked.models:
        found = compare(Asked(model, asked.seed, asked.tiny), asked.python)
        print(table(found), flush=True)
        models.append(found)
    agree = all(agrees(found) for found in models)
    figures = {"dtype": "float32", "min_cosine": MIN_COSINE, "models": models, "agree": agree}
    return Result(figures, well=agree, keep=not asked.tiny)
