"""Programs of one interpreted launch that run at once, as a cooperative launch's do.

Triton's interpreter runs one program after the other, so that a barrier between them would wait for
ever. Here each runs in a thread of its own.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from triton.runtime import interpreter

SWITCH_S = 1e-4


class _Programs(threading.local):
    """Which program a thread is."""

    at: tuple[int, int, int] | None = None


class _Together:
    """Collects the programs of a launch, and runs them with the last one."""

    def __init__(self, program: Callable[..., None]) -> None:
        self._program = program
        self._waiting: list[threading.Thread] = []
        self._failed: list[Exception] = []
        # What the interpreter asks of a function.
        self.__globals__ = program.__globals__
        self.__name__ = program.__name__
        self.__signature__ = inspect.signature(program)

    def __call__(self, **given: Any) -> None:
        builder = interpreter.interpreter_builder
        at, (count, *_) = builder.grid_idx, builder.grid_dim
        self._waiting.append(threading.Thread(target=self._run, args=(at, given), daemon=True))
        if len(self._waiting) < count:
            return
        for thread in self._waiting:
            thread.start()
        for thread in self._waiting:
            thread.join(timeout=240)
        assert not any(thread.is_alive() for thread in self._waiting), "the programs hang"
        if self._failed:
            raise self._failed[0]

    def _run(self, at: tuple[int, int, int], given: dict[str, Any]) -> None:
        interpreter.interpreter_builder.grid_idx = at
        try:
            self._program(**given)
        except Exception as error:  # noqa: BLE001 - told by the thread that waits
            self._failed.append(error)


@contextmanager
def programs_together(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Launches of a one-dimensional grid run their programs at once."""
    builder, places = interpreter.interpreter_builder, _Programs()

    class Builder(type(builder)):  # type: ignore[misc]
        grid_idx = property(lambda self: places.at, lambda self, at: setattr(places, "at", at))

    class Executor(interpreter.GridExecutor):
        def __init__(self, fn: Callable[..., None], *rest: Any) -> None:
            super().__init__(fn, *rest)
            self.fn = _Together(fn)

    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    patch.setattr(builder, "__class__", Builder)
    patch.setattr(interpreter, "GridExecutor", Executor)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
        patch.undo()
