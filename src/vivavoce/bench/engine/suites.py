"""The parts of a run, each told into the same file, whatever became of the others."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from vivavoce.bench.device import provenance
from vivavoce.bench.engine.setting import Setting, Told, release_memory, told_or_failed
from vivavoce.errors import SettingsError

SCHEMA = 1
"""Raised when a field of the JSON changes its meaning."""

PARTS = {
    "correct": "correct.measure_correctness",
    "kernels": "kernels.measure_kernels",
    "frames": "frames.measure_frames",
    "load": "load.measure_load",
    "server": "server.measure_server",
    "peer": "peer.measure_peer",
}
BY_PRECISION = ("none", "int8", "fp8")
NO_CUDA = (
    "No CUDA device: this measures the CPU. Nothing is captured, nothing runs in Triton, and the "
    "figures say nothing about a GPU."
)
_QUERY = "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem,power.limit"


def run_part(part: str, setting: Setting) -> Told:
    """What a part tells, or why it tells nothing, and how it came about.

    What the setting's ``keep`` is given on the way has that, too.
    """
    module, function = PARTS[part].split(".")
    measure: Callable[[Setting], Told] = getattr(
        import_module(f"vivavoce.bench.engine.{module}"), function
    )
    began_s, place = time.perf_counter(), where(setting.device)

    def come_about(told: Told) -> Told:
        return {**told, "took_s": round(time.perf_counter() - began_s, 1), "where": place}

    kept = replace(setting, keep=lambda told: setting.keep(come_about(told)))
    told = told_or_failed(lambda: measure(kept))
    release_memory()
    return come_about(told)


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


def failures(told: Told) -> list[str]:
    """Why something of a part was not found, however deep it stands: of a precision, of a dtype."""
    found = [str(told[name]) for name in ("failed", "failed_requests") if name in told]
    inner = (each for each in told.values() if isinstance(each, dict))
    return [*found, *(failure for each in inner for failure in failures(each))]


def merge(path: Path, name: str, part: str, told: Told) -> Told:
    """Put one part's result into a file, leaving the others in it; the whole.

    Of parts by precision those of earlier runs stay. The file is whole at every moment. Raises
    SettingsError for a file that is something else.
    """
    whole: dict[str, Any] = {"schema": SCHEMA, "models": {}}
    if path.exists():
        try:
            whole = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SettingsError(f"{path} is not JSON: {error}") from error
        if not isinstance(whole, dict) or whole.get("schema") != SCHEMA or "models" not in whole:
            raise SettingsError(f"{path} holds something else.")
    of_model = whole["models"].setdefault(name, {})
    before = {key: each for key, each in of_model.get(part, {}).items() if key in BY_PRECISION}
    of_model[part] = before | told
    written = path.with_name(f"{path.name}.part")
    written.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    os.replace(written, path)
    return whole
