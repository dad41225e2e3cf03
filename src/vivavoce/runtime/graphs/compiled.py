"""torch.compile where it helps: on CUDA only, inside of our own captures, with a cache on disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from vivavoce.runtime.device_errors import is_out_of_memory
from vivavoce.runtime.graphs.api import tensors_in
from vivavoce.runtime.graphs.captures import FAILURES

log = logging.getLogger(__name__)

CompileMode: TypeAlias = Literal["max-autotune", "reduce-overhead", "default", "off"]

CACHES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
"""What keeps compiled code where, by the variables that PyTorch and Triton read."""

Shapes: TypeAlias = tuple[tuple[int, ...], ...]
"""Of all tensors among the arguments, in order."""

TEMPLATE_PROCESSORS = 68
"""Multiprocessors from which on max-autotune has templates for products and convolutions: PyTorch's
``torch/_inductor/utils.py``, ``is_big_gpu``. An RTX 4060 has 24, an H100 132."""

SHAPES = 64
"""How many shapes of one function are compiled; PyTorch gives up after eight."""


def inductor_mode(mode: CompileMode) -> str | None:
    """The mode to ask PyTorch for, inside of a capture of ours; None for none.

    Its own graphs and ours do not go together: "max-autotune" becomes the same without graphs, and
    "reduce-overhead", which is nothing but graphs, "default".
    """
    if mode == "off":
        return None
    return "max-autotune-no-cudagraphs" if mode == "max-autotune" else "default"


def has_templates(device: torch.device) -> bool:
    """Whether max-autotune finds more to choose from on this GPU than the default mode does."""
    return processors(device) >= TEMPLATE_PROCESSORS


def processors(device: torch.device) -> int:
    """Multiprocessors of a CUDA device."""
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


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
    """A function, compiled for each new shape of its arguments; else it runs as it is.

    ``failed`` counts such shapes, and the first is a warning. It is compiled whole or not at all,
    so that nothing was changed yet where compiling fails. A shape's first call may also fail while
    it runs (a kernel that needs more than the device has); first calls are made when nothing is in
    use, and what they changed must not matter. Where memory was short it raises once, for whoever
    called to make room and call again. ``mode`` is one of PyTorch's.
    """

    def __init__(self, name: str, plain: Callable[..., Any], mode: str, **how: Any) -> None:
        self.failed = 0
        self._name, self._plain = name, plain
        self._compiled = torch.compile(plain, mode=mode, dynamic=False, fullgraph=True, **how)
        self._proven: set[Shapes] = set()
        self._refused: set[Shapes] = set()
        self._scarce: set[Shapes] = set()
        limits = torch._dynamo.config
        limits.recompile_limit = max(limits.recompile_limit, SHAPES)
        self._compiling = _compiling()

    def __call__(self, *args: Any) -> Any:
        shapes = tuple(tuple(tensor.shape) for tensor in tensors_in(args))
        if shapes in self._refused:
            return self._plain(*args)
        try:
            made = self._compiled(*args)
        except (*FAILURES, *self._compiling) as error:
            if shapes in self._proven and not isinstance(error, self._compiling):
                raise
            if is_out_of_memory(error) and shapes not in self._scarce:
                self._scarce.add(shapes)
                raise
            self._refuse(shapes, error)
        else:
            self._proven.add(shapes)
            return made
        return self._plain(*args)  # with the error gone, and what it held

    def _refuse(self, shapes: Shapes, error: Exception) -> None:
        self._refused.add(shapes)
        self.failed += 1
        if self.failed == 1:
            log.warning("%s does not compile, running it as it is: %s", self._name, error)


def _compiling() -> tuple[type[Exception], ...]:
    """What compiling raises, which can also happen to a shape that was compiled before."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    return TorchDynamoException, FailOnRecompileLimitHit
