"""What can be set for the Piper engine as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from vivavoce.runtime.machine import usable_cores

MAX_DEFAULT_WORKERS = 8

Scale = Annotated[float, Ge(0.0), Le(2.0)]
Count = Annotated[int, Ge(1)]


@dataclass(frozen=True, slots=True)
class PiperOptions:
    """Options of the Piper engine.

    ``voice`` is the default voice: a name among the voices found, one that can be downloaded
    (with ``download``, from ``download_repo`` on the Hugging Face Hub), or empty for the packaged
    voice; ``model`` is the path of an .onnx file to use instead. ``voices_dir`` holds more voices
    as NAME.onnx + NAME.onnx.json.
    ``noise_scale``, ``noise_w_scale`` and ``length_scale`` replace the voice's own; an utterance
    may override the first two. ``gain_db`` lifts the models' low level towards what other
    servers send (they scale each sentence to full peak, which no stream can). ``workers`` is how
    many windows are computed at once (0: one per core, at most 8), ``threads`` how many threads
    ONNX Runtime uses for each. Windows are in
    frames of the model (256 samples for all published voices). ``loaded_voices`` bounds how many
    voices stay in memory.
    """

    voice: str = ""
    model: Path | None = None
    voices_dir: Path | None = None
    download: bool = False
    download_repo: str = "rhasspy/piper-voices"
    cache_dir: Path | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    capacity: Count = 64
    workers: Annotated[int, Ge(0), Le(64)] = 0
    threads: Count = 1
    loaded_voices: Count = 3
    noise_scale: Scale | None = None
    noise_w_scale: Scale | None = None
    length_scale: Annotated[float, Gt(0.0), Le(10.0)] | None = None
    gain_db: Annotated[float, Ge(-20.0), Le(20.0)] = 4.0
    first_window_frames: Count = 24
    max_window_frames: Count = 64
    window_growth: Annotated[float, Ge(1.0)] = 2.0

    def worker_count(self) -> int:
        """How many units of work run at once."""
        return self.workers or min(usable_cores(), MAX_DEFAULT_WORKERS)
