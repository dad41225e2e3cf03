"""How many kernels a frame of Qwen3-TTS launches on a GPU, counted without one.

The published sizes on PyTorch's meta device, which computes nothing: Triton's launches are counted
by kernel instead of being made, and PyTorch's operations by name and by the function that called
them. Views and new memory launch nothing. Another checkout is counted in a process of its own.

python benchmarks/qwen3_launches.py [--before CHECKOUT] [--rows N] [-o FILE]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROWS = (1, 4, 16)
POSITIONS = 1024
MODELS = ("Qwen3-TTS-12Hz-0.6B-CustomVoice", "Qwen3-TTS-12Hz-1.7B-CustomVoice")
OUTPUT = Path(__file__).parent / "results" / "qwen3_launches.json"
_NO_LAUNCH = ("aten.empty", "aten.new_empty", "aten.detach", "aten.alias", "aten._unsafe_view")


def main() -> int:
    """Count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="an earlier checkout, counted too")
    parser.add_argument("--rows", type=int, action="append", help="repeatable; 1, 4 and 16")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT)
    parser.add_argument("--one", action="store_true", help="this process's checkout, to stdout")
    options = parser.parse_args()
    rows = options.rows or list(ROWS)
    if options.one:
        print(json.dumps(counted(rows)))
        return 0
    from vivavoce.bench.device import provenance

    told: dict[str, Any] = {"before": None, "now": run(Path(__file__).parents[1], rows)}
    report = {**provenance(), "triton": importlib.metadata.version("triton")}
    if options.before is not None:
        report["before_commit"] = commit(options.before)
        told["before"] = run(options.before, rows)
    report |= {when: frames for when, frames in told.items() if frames}
    options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for when, frames in told.items():
        for each in frames or ():
            launches = f"{each['triton']:4} by Triton, {each['pytorch']:3} by PyTorch"
            print(f"{when:6} {each['model']}, {each['rows']:2} rows, {each['kind']}: {launches}")
    return 0


def run(checkout: Path, rows: list[int]) -> list[dict[str, Any]]:
    """``counted`` of a checkout in a process of its own, where Triton does not interpret."""
    environment = os.environ | {"PYTHONPATH": path_of(checkout), "TRITON_INTERPRET": "0"}
    command = [sys.executable, __file__, "--one", *(f"--rows={count}" for count in rows)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return list(json.loads(done.stdout))


def path_of(checkout: Path) -> str:
    """The checkout's package before everything else."""
    before = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(filter(None, [str(checkout.resolve() / "src"), before]))


def commit(checkout: Path) -> str:
    """What is checked out there."""
    command = ("git", "-C", str(checkout), "rev-parse", "HEAD")
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def counted(rows: list[int]) -> list[dict[str, Any]]:
    """Every kind of frame of both models."""
    return [frame for model in MODELS for count in rows for frame in _frames(model, count)]


def _frames(model: str, rows: int) -> Iterator[dict[str, Any]]:
    import torch

    from vivavoce.engines.qwen3.frame import FrameIds, frame
    from vivavoce.engines.qwen3.fused import FusedTalker
    from vivavoce.engines.qwen3.rows import RowState
    from vivavoce.engines.qwen3.talker import Talker
    from vivavoce.runtime.kernels.dispatch import Path as Way
    from vivavoce.runtime.kernels.dispatch import chosen

    config, meta = _config(model), torch.device("meta")
    with meta:
        talker = Talker(config.talker).to(torch.bfloat16).requires_grad_(False)
    fused = FusedTalker.of(talker, chosen(meta, torch.bfloat16, Way.TRITON), rows)
    state = RowState.build(config.talker, rows, POSITIONS, talker.codec_head.weight)
    ids = FrameIds.of(config)
    for kind, step in (("with the talker's step", True), ("the first of each row", False)):
        launches, operations = _launches(
            lambda step=step: frame(talker, state, ids, POSITIONS, draw=fused, step=step)
        )
        yield {
            "model": model,
            "rows": rows,
            "kind": kind,
            "triton": launches.total(),
            "pytorch": operations.total(),
            "kernels": dict(launches.most_common()),
            "operations": dict(operations.most_common()),
        }


def _config(model: str) -> Any:
    """The published sizes."""
    from vivavoce.engines.qwen3.catalog import published
    from vivavoce.engines.qwen3.config import Qwen3Config
    from vivavoce.testing.published_config import (
        SMALL_FILES,
        codec_config,
        model_config,
        small_file,
    )

    with TemporaryDirectory() as name:
        folder = Path(name)
        for path in SMALL_FILES:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(small_file(path), encoding="utf-8")
        (folder / "config.json").write_text(json.dumps(model_config(published(model))))
        (folder / "speech_tokenizer" / "config.json").write_text(json.dumps(codec_config()))
        return Qwen3Config.load(folder)


def _launches(work: Callable[[], object]) -> tuple[Counter[str], Counter[str]]:
    """By kernel, and by PyTorch's operation and who called it."""
    launches: Counter[str] = Counter()
    with _triton_counted(launches), _operations() as operations:
        work()
    return launches, operations


@contextmanager
def _triton_counted(launches: Counter[str]) -> Iterator[None]:
    """What Triton would launch is counted and not launched."""
    from triton.runtime import jit

    whole = jit.JITFunction.run

    def noted(self: Any, *_: Any, **__: Any) -> None:
        launches[self.__name__] += 1

    jit.JITFunction.run = noted
    try:
        yield
    finally:
        jit.JITFunction.run = whole


@contextmanager
def _operations() -> Iterator[Counter[str]]:
    """PyTorch's operations that compute or copy, by name and by the function that called them."""
    from torch.utils._python_dispatch import TorchDispatchMode

    found: Counter[str] = Counter()

    class Noting(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            name = str(func)
            if not func.is_view and not name.startswith(_NO_LAUNCH):
                found[f"{_caller()}: {name}"] += 1
            return func(*args, **(kwargs or {}))

    with Noting():
        yield found


def _caller() -> str:
    """The innermost function of the package on the stack."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if "vivavoce" in frame.f_globals.get("__name__", "").split("."):
            return f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"
    return "elsewhere"


if __name__ == "__main__":
    sys.exit(main())
