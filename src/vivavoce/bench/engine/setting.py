"""What is measured, on what device, and with which weights."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from vivavoce.types import Sampling, Span, Utterance

if TYPE_CHECKING:
    import torch

    from vivavoce.engines.base import Engine

Told: TypeAlias = dict[str, Any]

TEXT = "The quick brown fox jumps over the lazy dog, and nobody minds at all."
SIZES = ("0.6B", "1.7B")
POSITIONS = 1024
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """``rows`` are the numbers of rows at a time; ``seconds`` the length of a load run."""

    folder: Path
    size: str
    device: str
    rows: tuple[int, ...]
    precisions: tuple[str, ...]
    seconds: float
    tiny: bool = False

    @property
    def name(self) -> str:
        """What a file of results calls it."""
        return f"{self.size} tiny" if self.tiny else self.size

    @property
    def rounds(self) -> int:
        """How often something is timed."""
        return 5 if self.tiny else 40

    def options(self, precision: str, **more: Any) -> Mapping[str, Any]:
        """Of the engine."""
        own = {
            "model": self.folder,
            "device": self.device,
            "positions": POSITIONS,
            "guards": False,
            "quantize": precision,
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
        return (1, 2, 4, 8, 16, 32, 64)
    return (1, 2) if tiny else (1, 2, 4)


def make_checkpoint(size: str, where: Path, *, tiny: bool) -> Path:
    """Random weights whose speech does not end by itself; what is there already is used again."""
    from vivavoce.engines.qwen3.random_checkpoint import make_random_checkpoint

    folder = where / f"{size}{'-tiny' if tiny else ''}"
    if not (folder / "config.json").is_file():
        name = f"Qwen3-TTS-12Hz-{size}-CustomVoice"
        make_random_checkpoint(name, folder, tiny=tiny, eos_gain=0.0)
    return folder


def utterance(engine: Engine, frames: int, seed: int, *, greedy: bool = False) -> Utterance:
    """So many frames of something."""
    options: dict[str, Any] = {"max_frames": frames, "guards": False}
    if greedy:
        options["greedy"] = True
    return Utterance(
        (Span(f"{seed}. {TEXT}"),),
        engine.voices()[0],
        sampling=Sampling() if greedy else Sampling(seed=seed),
        options=options,
        deadline_s=time.monotonic(),
    )


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
        return {"peak_resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
    return {
        "allocated": torch.cuda.memory_allocated(device) // MIB,
        "peak_allocated": torch.cuda.max_memory_allocated(device) // MIB,
        "reserved": torch.cuda.memory_reserved(device) // MIB,
    }
