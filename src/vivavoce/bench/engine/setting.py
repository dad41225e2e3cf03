"""What is measured, on what device, and with which weights."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from vivavoce.errors import VivavoceError
from vivavoce.runtime.machine import peak_resident_bytes
from vivavoce.types import Sampling, Span, Utterance

if TYPE_CHECKING:
    import torch

    from vivavoce.engines.base import Engine

log = logging.getLogger(__name__)

Told: TypeAlias = dict[str, Any]

TEXT = "The quick brown fox jumps over the lazy dog, and nobody minds at all."
SIZES = ("0.6B", "1.7B")
POSITIONS = 1024
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """``rows`` are the numbers of rows at a time; ``seconds`` the length of a load run.

    ``keep`` is given what a part has told so far, each time a precision is done: what comes after
    it may fail, or be ended.
    """

    folder: Path
    size: str
    device: str
    rows: tuple[int, ...]
    precisions: tuple[str, ...]
    seconds: float
    tiny: bool = False
    keep: Callable[[Told], object] = lambda _: None

    @property
    def name(self) -> str:
        """What a file of results calls it."""
        return f"{self.size} tiny" if self.tiny else self.size

    @property
    def rounds(self) -> int:
        """How often something is timed."""
        return 5 if self.tiny else 40

    def options(self, precision: str, **more: Any) -> Mapping[str, Any]:
        """Of the engine; what is compiled, and how, is said as to a server: TORCH_COMPILE_MODE."""
        mode = os.environ.get("TORCH_COMPILE_MODE") if self.device == "cuda" else None
        own = {
            "model": self.folder,
            "device": self.device,
            "positions": POSITIONS,
            "guards": False,
            "quantize": precision,
            **({"torch_compile_mode": mode} if mode else {}),
        }
        return own | more

    def engine(self, precision: str, rows: int, **more: Any) -> Engine:
        """Loaded, with exactly so many rows."""
        from vivavoce.engines.qwen3 import create

        engine = create(self.options(precision, capacity=rows, **more))
        engine.load()
        return engine


def default_rows(device: str, *, tiny: bool) -> tuple[int, ...]:
    """Rows at a time, where nobody says how many."""
    if device == "cuda" and not tiny:
        return (1, 2, 4, 8, 12, 16, 24, 32, 64)
    return (1, 2) if tiny else (1, 2, 4)


def make_checkpoint(size: str, where: Path, *, tiny: bool) -> Path:
    """Random weights whose speech does not end by itself; what is there already is used again."""
    from vivavoce.testing.random_qwen3 import make_random_checkpoint

    folder = where / f"{size}{'-tiny' if tiny else ''}"
    if not (folder / "config.json").is_file():
        name = f"Qwen3-TTS-12Hz-{size}-CustomVoice"
        make_random_checkpoint(name, folder, tiny=tiny, eos_gain=0.0)
    return folder


def utterance(
    engine: Engine, frames: int, seed: int, *, greedy: bool = False, guards: bool = False
) -> Utterance:
    """So many frames of something; with ``guards``, which cost time, perhaps fewer."""
    options: dict[str, Any] = {"max_frames": frames, "guards": guards}
    if greedy:
        options["greedy"] = True
    return Utterance(
        (Span(f"{seed}. {TEXT}"),),
        engine.voices()[0],
        sampling=Sampling() if greedy else Sampling(seed=seed),
        options=options,
        deadline_s=time.monotonic(),
    )


def told_or_failed(measure: Callable[[], Told]) -> Told:
    """What is told, or why nothing is: what else is measured in a run must not be lost for it."""
    from vivavoce.runtime.graphs.captures import FAILURES

    usual = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError)
    known: tuple[type[Exception], ...] = (*FAILURES, *usual, TypeError, ValueError, VivavoceError)
    try:
        return measure()
    except known as error:
        log.warning("A measurement failed.", exc_info=True)
        return {"failed": f"{type(error).__name__}: {error}"}


def by_precision(setting: Setting, measure: Callable[[str], Told]) -> Told:
    """What is told of each; it ``failed`` where all of them did. Each is kept when it is done."""
    told: Told = {}
    for number, precision in enumerate(setting.precisions, start=1):
        told[precision] = told_or_failed(partial(measure, precision))
        release_memory()
        setting.keep({**told, "to_come": list(setting.precisions[number:])})
    failed = [each["failed"] for each in told.values() if "failed" in each]
    return told | ({"failed": failed[0]} if len(failed) == len(told) else {})


def release_memory() -> None:
    """Give unused memory back, so that the next part's is its own."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def memory_mb(device: torch.device) -> Told:
    """On CUDA as PyTorch allocated it, without the context; on a CPU the most that was resident."""
    import torch

    if device.type != "cuda":
        peak = peak_resident_bytes()
        return {} if peak is None else {"peak_resident": peak // MIB}
    return {
        "allocated": torch.cuda.memory_allocated(device) // MIB,
        "peak_allocated": torch.cuda.max_memory_allocated(device) // MIB,
        "reserved": torch.cuda.memory_reserved(device) // MIB,
    }
