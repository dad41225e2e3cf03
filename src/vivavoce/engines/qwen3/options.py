"""What can be set for the Qwen3-TTS engine as a whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

from annotated_types import Ge, Le

from vivavoce.errors import SettingsError

DEFAULT_MODEL = "Qwen3-TTS-12Hz-0.6B-CustomVoice"
DEFAULT_ROWS = {"cpu": 4, "cuda": 16}
AUTO = "auto"
QUANTIZE = (AUTO, "int8", "fp8", "none", "")

Count = Annotated[int, Ge(0)]
Dtype: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
CompileMode: TypeAlias = Literal["max-autotune", "reduce-overhead", "default", "off"]
TextLayout: TypeAlias = Literal["auto", "streaming", "whole"]

DEFAULT_MODE: CompileMode = "max-autotune"


@dataclass(frozen=True, slots=True)
class Qwen3Options:
    """Options of the Qwen3-TTS engine.

    ``model`` is a folder in the published layout or a published name (downloaded on ``load`` into
    ``models_dir``, unless it is there); ``voice`` the default voice. ``device`` is where it runs
    or nothing does; "auto" takes a CUDA device if PyTorch sees one. ``dtype`` "auto" is bfloat16
    on CUDA, float32 on a CPU; the codec is always float32. ``tf32`` None allows TF32 unless the
    dtype is float32. ``capacity`` rows (0: 4 on a CPU, 16 on CUDA, 4 where that is under 12 GB) of
    ``positions`` each (prompt and speech; 12.5 a second). ``text_layout`` "auto" is what the
    model's kind is published with. ``reference_silence_s`` goes to the end of a recording to clone
    from (None: 0.5 with a transcript, else none). ``guards`` False speaks without silence and loop
    detection.
    ``threads`` are PyTorch's on a CPU (0: half the cores). ``quantize`` is how the weights of the
    talker and the code predictor are stored: "int8", "fp8" (CUDA from sm_89 on), "none" (or
    nothing), or "auto": int8 on CUDA where its kernels work, none on a CPU. On CUDA frames, prompts
    and sound are captured unless ``cuda_graphs`` is False, and the codec is compiled in
    ``torch_compile_mode`` (None: "max-autotune"), unless that is "off" or ``torch_compile`` False.
    Rows are as many as fit into ``gpu_memory_budget_mb`` of a GPU (0: what is free there), CUDA's
    own context not counted. What asks for what is not there is refused; on a CPU that nobody asked
    for, what is for a GPU is named in the log.
    """

    RECORDS: ClassVar = "frames"
    GONE: ClassVar[Mapping[str, str]] = {
        "one_launch": "a frame is always one captured graph. Leave it out"
    }

    model: str | Path = DEFAULT_MODEL
    voice: str = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Dtype = "auto"
    tf32: bool | None = None
    capacity: Count = 0
    positions: Annotated[int, Ge(64), Le(32_768)] = 1024
    text_layout: TextLayout = "auto"
    reference_silence_s: Annotated[float, Ge(0.0), Le(5.0)] | None = None
    guards: bool = True
    threads: Count = 0
    models_dir: Path | None = None
    quantize: str = AUTO
    torch_compile: bool | None = None
    torch_compile_mode: CompileMode | None = None
    cuda_graphs: bool | None = None
    gpu_memory_budget_mb: Count = 0


def refuse_unsupported(options: Qwen3Options) -> None:
    """Raise SettingsError for what cannot be switched on; nothing is ignored silently."""
    if options.quantize.lower() not in QUANTIZE:
        raise SettingsError(
            f"quantize={options.quantize!r} is not one of {', '.join(filter(None, QUANTIZE))}.",
            param="quantize",
        )
    if options.quantize.lower() == "fp8" and options.device == "cpu":
        raise SettingsError("quantize='fp8' needs device 'cuda'.", param="quantize")
    if options.cuda_graphs and options.device == "cpu":
        raise SettingsError("cuda_graphs needs device 'cuda'.", param="cuda_graphs")
    if options.gpu_memory_budget_mb and options.device == "cpu":
        raise SettingsError(
            "gpu_memory_budget_mb needs device 'cuda'.", param="gpu_memory_budget_mb"
        )
    if options.torch_compile and (
        options.cuda_graphs is False or options.torch_compile_mode == "off"
    ):
        raise SettingsError(
            "torch_compile=true needs cuda_graphs, and a torch_compile_mode that is not off.",
            param="torch_compile",
        )
    if options.torch_compile and options.device == "cpu":
        raise SettingsError("torch_compile needs device 'cuda'.", param="torch_compile")


def compile_mode(options: Qwen3Options) -> CompileMode:
    """How the codec is compiled on CUDA: ``torch_compile`` says whether, the mode says how."""
    if options.torch_compile is False:
        return "off"
    return options.torch_compile_mode or DEFAULT_MODE


def for_a_gpu(options: Qwen3Options) -> list[str]:
    """What was set, as name=value, that has no effect on a CPU."""
    set_ = {
        "cuda_graphs": options.cuda_graphs,
        "torch_compile": options.torch_compile,
        "torch_compile_mode": options.torch_compile_mode,
        "tf32": options.tf32,
    }
    return [f"{name}={value}" for name, value in set_.items() if value not in (None, False, "off")]


def rows_of(options: Qwen3Options, device: str) -> int:
    """How many rows on "cpu" or "cuda", before memory is asked."""
    return options.capacity or DEFAULT_ROWS[device]


def models_root(options: Qwen3Options) -> Path:
    """Where downloaded models are kept."""
    if options.models_dir is not None:
        return options.models_dir
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "vivavoce" / "models"
