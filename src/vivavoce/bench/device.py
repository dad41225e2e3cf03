"""On what machine and with what versions a figure was measured."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vivavoce.runtime.machine import usable_cores

PACKAGES = ("vivavoce", "numpy", "onnxruntime", "soxr", "uvicorn", "httpx", "piper-tts", "torch")
_SECRETS = ("--api-key",)
_MASK = "***"


def provenance(command: Sequence[str] | None = None) -> dict[str, Any]:
    """Date, command line, device, versions and commit, ready for JSON. Holds no secrets.

    ``load_average`` (1 minute) is from before the report is written: far more than the run itself
    can have caused means that the machine was shared, and the figures with it.
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command_line(sys.argv if command is None else command),
        "device": device(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions(),
        "commit": commit(),
    }


def command_line(arguments: Sequence[str]) -> str:
    """The command as one line; files without the folders they lie in, API keys masked."""
    words = [Path(arguments[0]).name] if arguments else []
    masked = False
    for word in arguments[1:]:
        words.append(_MASK if masked else _without_secret(_without_folder(word)))
        masked = word in _SECRETS
    return " ".join(word if _MASK in word else shlex.quote(word) for word in words)


def _without_folder(word: str) -> str:
    """What a file is called; where it lies on this machine tells others nothing."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{equals}{Path(value).name if Path(value).is_absolute() else value}"


def _without_secret(word: str) -> str:
    name, equals, _ = word.partition("=")
    return f"{name}={_MASK}" if equals and name in _SECRETS else word


def device() -> dict[str, Any]:
    """The machine: CPU model, cores (all, and those usable here), RAM, OS, GPUs."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "ram_gib": _ram_gib(),
        "os": platform.platform(),
        "gpus": _gpus(),
    }


def versions() -> dict[str, str]:
    """Python and the installed packages that matter for speed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the checkout that vivavoce runs from, ``+`` if changed; None elsewhere."""
    package = Path(__file__).resolve().parents[1]
    root = package.parents[1]
    # An installed copy may lie inside some other project's checkout.
    if package != root / "src" / "vivavoce" or not (root / ".git").exists():
        return None
    head = _output("git", "-C", str(root), "rev-parse", "HEAD")
    changed = _output("git", "-C", str(root), "status", "--porcelain", "--", "src")
    return head and head + ("+" if changed else "")


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _ram_gib() -> float | None:
    try:
        total_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no such question
        return None
    return round(total_bytes / 2**30, 1)


def _gpus() -> list[str]:
    query = "--query-gpu=name,driver_version"
    listed = _output("nvidia-smi", query, "--format=csv,noheader")
    return listed.splitlines() if listed else []


def _output(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
