"""Memory that runs out where it is told to: at any place that allocates, on a CPU.

A place is a line of the package that made PyTorch allocate. All of those that some work comes by
are found by doing it once; then each can be made to fail.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import vivavoce

PACKAGE = str(Path(vivavoce.__file__).parent)
HOST = {
    ("transfer.py", "take"),
    ("graphs.py", "take"),
    ("rope.py", "build"),
    ("rope.py", "frequencies"),
    ("rope.py", "turns"),
}
"""What they take is memory of the host, which no GPU lacks."""
DEVICELESS = {"tape.py", "statics.py"}
"""The stand-in's own: a replay takes no memory."""


class Place(NamedTuple):
    """A line of a function, below the package."""

    file: str
    function: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.function}:{self.line}"


@dataclass
class Planted(TorchDispatchMode):
    """Notes the places of all that runs inside; at ``fails`` it lacks memory so many ``times``."""

    fails: Place | None = None
    times: int = 0
    places: dict[Place, None] = field(default_factory=dict)
    failed: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        place = _place() if _allocates(func) and not _is_meta(args, kwargs or {}) else None
        if place is not None:
            self.places.setdefault(place)
            if place == self.fails and self.failed < self.times:
                self.failed += 1
                raise torch.OutOfMemoryError(f"CUDA out of memory (planted at {place}).")
        return func(*args, **(kwargs or {}))


def places_of(work: Callable[[], object]) -> list[Place]:
    """All that it comes by."""
    with Planted() as planted:
        work()
    return [*planted.places]


@cache
def _allocates(func: Any) -> bool:
    """Whether what it returns is new: neither written in place nor a view."""
    returns = func._schema.returns
    return any(str(each.type) == "Tensor" for each in returns) and all(
        each.alias_info is None for each in returns
    )


def _is_meta(args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether it is about tensors without memory."""
    device = kwargs.get("device")
    return (device is not None and torch.device(device).type == "meta") or any(
        isinstance(each, torch.Tensor) and each.is_meta for each in args
    )


def _place() -> Place | None:
    """The innermost line of the package; None where it is not about a GPU's memory."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(PACKAGE):
            path = Path(code.co_filename)
            if path.name in DEVICELESS or (path.name, code.co_name) in HOST:
                return None
            return Place(str(path.relative_to(PACKAGE)), code.co_name, frame.f_lineno)
        frame = frame.f_back
    return None
