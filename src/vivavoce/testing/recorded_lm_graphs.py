"""A stand-in for CUDA graphs that works on any device: it records operators and replays them.

As with a real graph, a replay repeats the recorded operators on the recorded buffers: Python does
not run, numbers that came from the host stay what they were, and work that waits for the host
or takes a shape from data cannot be recorded.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from vivavoce.engines.neutts.torch_lm.graphs import Work
from vivavoce.errors import EngineError

WAITS = frozenset({"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "item", "equal"})
"""Operators that a CUDA graph cannot hold: their result is needed on the host."""


@dataclass(frozen=True, slots=True)
class _Call:
    operator: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    results: list[Any]


@dataclass(slots=True)
class _Recorder:
    calls: list[_Call] = field(default_factory=list)

    def note(self, operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        name = operator.overloadpacket.__name__
        if name in WAITS or (name == "index" and any(map(_is_mask, args[1]))):
            raise EngineError(f"{name} waits for the host; it cannot be captured.")
        result = operator(*args, **kwargs)
        self.calls.append(_Call(operator, args, kwargs, tree_flatten(result)[0]))
        return result


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype == torch.bool


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._recorder.note(func, args, kwargs or {})


class RecordedGraphs:
    """Behaves as ``CudaGraphs`` does; ``replays`` counts the replays by key."""

    def __init__(self) -> None:
        self.replays: dict[Hashable, int] = {}
        self._recorded: dict[Hashable, list[_Call]] = {}

    def capture(self, key: Hashable, work: Work) -> None:
        """Run it once and keep its operators. Raises EngineError for what no graph can hold."""
        recorder = _Recorder()
        with _Mode(recorder):
            work()
        self._recorded[key] = recorder.calls
        self.replays[key] = 0

    def run(self, key: Hashable, work: Work) -> None:
        """Replay, or call what was not captured."""
        calls = self._recorded.get(key)
        if calls is None:
            work()
            return
        self.replays[key] += 1
        _replay(calls)

    def clear(self) -> None:
        """Forget the recordings."""
        self._recorded.clear()


@torch.no_grad()
def _replay(calls: Sequence[_Call]) -> None:
    made: dict[int, Any] = {}

    def given(value: Any) -> Any:
        return made.get(id(value), value) if isinstance(value, Tensor) else value

    for call in calls:
        result = call.operator(*tree_map(given, call.args), **tree_map(given, dict(call.kwargs)))
        for old, new in zip(call.results, tree_flatten(result)[0], strict=True):
            made[id(old)] = new
