"""torch.compile where it helps: on CUDA only, inside of our own captures, with a cache on disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

log = logging.getLogger(__name__)

CompileMode: TypeAlias = Literal["max-autotune", "reduce-overhead", "default", "off"]

CACHES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
"""What keeps compiled code where, by the variables that PyTorch and Triton read."""

SHAPES = 64
"""How many shapes of one function are compiled; PyTorch gives up after eight."""


def inductor_mode(mode: CompileMode, *, captured: bool) -> str | None:
    """The mode to ask PyTorch for; None for none.

    Its own graphs and ours do not go together: under a capture of ours, "max-autotune" becomes the
    same without graphs, and "reduce-overhead", which is nothing but graphs, "default".
    """
    if mode == "off":
        return None
    if not captured:
        return mode
    return "max-autotune-no-cudagraphs" if mode == "max-autotune" else "default"


def cache_on_disk(folder: Path) -> None:
    """Keep compiled code below ``folder``, so that a restart finds it; a user's choice stays."""
    for variable, name in CACHES.items():
        os.environ.setdefault(variable, str(folder / name))
    os.environ.setdefault("TORCHINDUCTOR_FX_GRAPH_CACHE", "1")


def cache_folder() -> Path:
    """Of this PyTorch and device: what one compiled is of no use to another."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parts = [f"torch-{torch.__version__}"]
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        parts.append(f"sm_{major}{minor}")
    return base / "vivavoce" / "compiled" / "-".join(parts)


class Compiled:
    """A function, compiled when first called; one that does not compile runs as it is.

    ``failed`` says so, and one warning does. ``mode`` is one of PyTorch's.
    """

    def __init__(self, name: str, plain: Callable[..., Any], mode: str, **how: Any) -> None:
        self.failed = False
        self._name, self._plain = name, plain
        self._compiled = torch.compile(plain, mode=mode, dynamic=False, **how)
        self._proven = False
        limits = torch._dynamo.config
        limits.recompile_limit = max(limits.recompile_limit, SHAPES)

    def __call__(self, *args: Any) -> Any:
        """Call it."""
        if self.failed:
            return self._plain(*args)
        try:
            made = self._compiled(*args)
        except RuntimeError as error:
            if self._proven:
                raise
            # Compiling comes before running: nothing was changed yet.
            self.failed = True
            log.warning("%s does not compile, running it as it is: %s", self._name, error)
            return self._plain(*args)
        self._proven = True
        return made
