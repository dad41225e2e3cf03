"""Operations on tensors as they were called, to be called again on the same tensors.

What a device's graph does silently is refused aloud: reading memory that is not the capture's own,
waiting for the host, shapes that depend on data, and random numbers without a key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vivavoce.runtime.graphs.api import CaptureFailed, StaticTensors, Work, address

_HOST_READS = frozenset(
    {
        Tensor.numpy,
        Tensor.cpu,
        Tensor.tolist,
        Tensor.item,
        Tensor.__bool__,
        Tensor.__int__,
        Tensor.__float__,
        Tensor.__index__,
    }
)
_REFUSED = {
    torch.Tag.data_dependent_output: "the host would wait for a value",
    torch.Tag.dynamic_output_shape: "a shape depends on data",
    torch.Tag.nondeterministic_seeded: "random numbers come from a generator",
}
_INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)


@dataclass(frozen=True, slots=True)
class _Slot:
    """Stands for a tensor that an operation on the tape makes."""

    number: int


@dataclass(frozen=True, slots=True)
class _Call:
    operation: Any
    args: tuple[Any, ...]
    named: dict[str, Any]
    makes: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Tape:
    """Recorded operations; ``size_bytes`` is the memory of what they make."""

    calls: tuple[_Call, ...]
    slots: int
    size_bytes: int

    @torch.no_grad()
    def play(self) -> None:
        """Call all of them again."""
        made: list[Tensor | None] = [None] * self.slots
        for call in self.calls:
            args = [_filled(each, made) for each in call.args]
            named = {name: _filled(each, made) for name, each in call.named.items()}
            results = _results(call.operation(*args, **named))
            for number, result in zip(call.makes, results, strict=True):
                if number is not None:
                    made[number] = result


def record(name: str, work: Work, statics: StaticTensors) -> Tape:
    """Run ``work`` and put everything it changed back. Raises CaptureFailed."""
    recorder = _Recorder(name, statics)
    try:
        with torch.no_grad(), _NoHost(name), recorder:
            work()
    finally:
        recorder.put_back()
    return Tape(tuple(recorder.calls), recorder.slots, recorder.size_bytes)


class _NoHost(TorchFunctionMode):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _HOST_READS:
            raise CaptureFailed(f"{self._name}: {func.__name__} would wait for the host.")
        return func(*args, **(kwargs or {}))


class _Recorder(TorchDispatchMode):
    def __init__(self, name: str, statics: StaticTensors) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self.slots = 0
        self.size_bytes = 0
        self._name, self._statics = name, statics
        self._numbers: dict[int, int] = {}
        self._made: list[Tensor] = []  # kept, so that ids stay unique
        self._own: set[int] = set()
        self._before: dict[int, tuple[Tensor, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        self._refuse(func, args, named)
        for tensor in _tensors([*args, *named.values()]):
            self._check_read(func, tensor)
        for tensor in _written(func, args, named):
            self._check_write(func, tensor)
        told = tuple(self._named(each) for each in args)
        told_named = {name: self._named(each) for name, each in named.items()}
        out = func(*args, **named)
        makes = tuple(self._note(each) for each in _results(out))
        self.calls.append(_Call(func, told, told_named, makes))
        return out

    def put_back(self) -> None:
        """What was in the buffers before."""
        for tensor, old in self._before.values():
            tensor.untyped_storage().copy_(old)

    def _refuse(self, func: Any, args: Any, named: dict[str, Any]) -> None:
        if func in _INDEXING:
            if any(index.dtype in (torch.bool, torch.uint8) for index in _tensors(args[1])):
                raise CaptureFailed(f"{self._name}: {func} with a mask waits for the host.")
            return
        quiet = not _argument(func, args, named, "dropout_p")
        for tag in func.tags:
            if tag == torch.Tag.nondeterministic_seeded and _draws_by_dropout(func) and quiet:
                continue
            if tag in _REFUSED:
                raise CaptureFailed(f"{self._name}: {func}: {_REFUSED[tag]}.")

    def _check_read(self, func: Any, tensor: Tensor) -> None:
        if id(tensor) not in self._numbers and not self._allowed(tensor):
            raise CaptureFailed(
                f"{self._name}: {func} reads a tensor {list(tensor.shape)} that is no static one."
            )

    def _allowed(self, tensor: Tensor) -> bool:
        return address(tensor) in self._own or self._statics.readable(tensor)

    def _check_write(self, func: Any, tensor: Tensor) -> None:
        at = address(tensor)
        if at in self._own or tensor.numel() == 0:
            return
        if not self._statics.writable(tensor):
            raise CaptureFailed(
                f"{self._name}: {func} writes to {list(tensor.shape)}, which is no buffer."
            )
        if at not in self._before:
            self._before[at] = (tensor, tensor.untyped_storage().clone())

    def _named(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            number = self._numbers.get(id(value))
            return value if number is None else _Slot(number)
        if isinstance(value, list | tuple):
            return [self._named(each) for each in value]
        return value

    def _note(self, made: Any) -> int | None:
        if not isinstance(made, Tensor):
            return None
        at = address(made)
        if at not in self._own and not self._statics.readable(made):
            self._own.add(at)
            self.size_bytes += made.untyped_storage().nbytes()
        self._numbers[id(made)] = self.slots
        self._made.append(made)
        self.slots += 1
        return self.slots - 1


def _draws_by_dropout(func: Any) -> bool:
    return any(argument.name == "dropout_p" for argument in func._schema.arguments)


def _argument(func: Any, args: Any, named: dict[str, Any], name: str) -> Any:
    for number, argument in enumerate(func._schema.arguments):
        if argument.name == name:
            return args[number] if number < len(args) else named.get(name)
    return None


def _filled(value: Any, made: list[Tensor | None]) -> Any:
    if isinstance(value, _Slot):
        return made[value.number]
    if isinstance(value, list):
        return [_filled(each, made) for each in value]
    return value


def _results(out: Any) -> tuple[Any, ...]:
    return tuple(out) if isinstance(out, list | tuple) else (out,)


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _written(func: Any, args: Any, named: dict[str, Any]) -> Iterator[Tensor]:
    for number, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[number] if number < len(args) else named.get(argument.name)
            yield from _tensors([value])
