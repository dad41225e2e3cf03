"""The parts of a run, each told into the same file, whatever became of the others."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from vivavoce.bench.device import provenance
from vivavoce.bench.engine.setting import Setting, Told, release_memory
from vivavoce.errors import SettingsError, VivavoceError

SCHEMA = 1
"""Raised when a field of the JSON changes its meaning."""

PARTS = {
    "correct": "correct.measure_correctness",
    "kernels": "kernels.measure_kernels",
    "frames": "frames.measure_frames",
    "load": "load.measure_load",
    "peer": "peer.measure_peer",
}
NO_CUDA = (
    "No CUDA device: this measures the CPU. Nothing is captured, nothing runs in Triton, and the "
    "figures say nothing about a GPU."
)
_QUERY = "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem,power.limit"


def run_part(part: str, setting: Setting) -> Told:
    """What a part tells, or why it tells nothing, and how it came about."""
    module, function = PARTS[part].split(".")
    measure: Callable[[Setting], Told] = getattr(
        import_module(f"vivavoce.bench.engine.{module}"), function
    )
    began_s = time.perf_counter()
    try:
        told = measure(setting)
    except (VivavoceError, RuntimeError, ValueError, TypeError, ImportError, OSError) as error:
        told = {"failed": f"{type(error).__name__}: {error}"}
    release_memory()
    took_s = round(time.perf_counter() - began_s, 1)
    return {**told, "took_s": took_s, "where": where(setting.device)}


def where(device: str) -> Told:
    """Machine, versions, commit; on CUDA the GPU's clocks."""
    told: Told = {"on": device, **provenance()}
    if device == "cuda":
        command = ("nvidia-smi", _QUERY, "--format=csv,noheader")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
            told["gpu"] = done.stdout.strip()
        except OSError:
            told["gpu"] = "nvidia-smi is missing"
    return told


def merge(path: Path, name: str, part: str, told: Told) -> Told:
    """Put one part's result into a file, leaving the others in it; the whole.

    Raises SettingsError for a file that is something else.
    """
    whole: dict[str, Any] = {"schema": SCHEMA, "models": {}}
    if path.exists():
        try:
            whole = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SettingsError(f"{path} is not JSON: {error}") from error
        if not isinstance(whole, dict) or whole.get("schema") != SCHEMA or "models" not in whole:
            raise SettingsError(f"{path} holds something else.")
    whole["models"].setdefault(name, {})[part] = told
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return whole
