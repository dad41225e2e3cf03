"""How many kernels a frame of Qwen3-TTS launches on a GPU, counted without one.

The published sizes on PyTorch's meta device, which computes nothing: Triton's launches are counted
by kernel instead of being made, and PyTorch's operations by name and by the function that called
them. Views and new memory launch nothing. Another checkout is counted in a process of its own.

vivavoce bench recipe qwen3_launches [--before CHECKOUT] [--rows N]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .turns import Result, before_option, commit_of, turn

ROWS = (1, 4, 16)
POSITIONS = 1024
MODELS = ("Qwen3-TTS-12Hz-0.6B-CustomVoice", "Qwen3-TTS-12Hz-1.7B-CustomVoice")
_NO_LAUNCH = ("aten.empty", "aten.new_empty", "aten.detach", "aten.alias", "aten._unsafe_view")


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    before_option(parser)
    parser.add_argument("--rows", type=int, action="append", help="repeatable; 1, 4 and 16")


def main(asked: argparse.Namespace) -> Result:
    """Count every checkout in a process of its own, where Triton does not interpret."""
    checkouts: dict[str, Path | None] = {"before": asked.before} if asked.before else {}
    checkouts["now"] = None
    figures: dict[str, Any] = {"triton": importlib.metadata.version("triton")}
    if asked.before is not None:
        figures["before_commit"] = commit_of(asked.before)
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    for when, checkout in checkouts.items():
        rows = asked.rows or ROWS
        figures[when] = turn("qwen3_launches", *rows, checkout=checkout, environment=environment)
        for each in figures[when]:
            launches = f"{each['triton']:4} by Triton, {each['pytorch']:3} by PyTorch"
            print(f"{when:6} {each['model']}, {each['rows']:2} rows, {each['kind']}: {launches}")
    return Result(figures)


def work(*rows: str) -> None:
    """Count this process's checkout."""
    print(json.dumps(counted([int(count) for count in rows])))


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
        work_of = partial(frame, talker, state, ids, POSITIONS, draw=fused, step=step)
        launches, operations = _launches(work_of)
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
