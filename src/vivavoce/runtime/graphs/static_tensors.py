"""The tensors that captured work may use: a replay knows addresses, not values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass

from torch import Tensor, nn


def address(tensor: Tensor) -> int:
    """Where the memory behind a tensor begins; the same for all views of it."""
    return tensor.untyped_storage().data_ptr()


class Statics:
    """``constants`` are read by captured work, ``buffers`` are read and written.

    Everything given is kept alive, and must stay where it is: ``moved`` finds what did not.
    """

    def __init__(self) -> None:
        self._constants: dict[int, Tensor] = {}
        self._buffers: dict[int, Tensor] = {}
        self._modules: list[tuple[nn.Module, frozenset[int]]] = []

    def constants(self, tensors: Iterable[Tensor]) -> Statics:
        """Allow reading; returns itself."""
        self._constants |= {address(tensor): tensor for tensor in tensors if tensor.numel()}
        return self

    def buffers(self, tensors: Iterable[Tensor]) -> Statics:
        """Allow reading and writing; returns itself."""
        self._buffers |= {address(tensor): tensor for tensor in tensors if tensor.numel()}
        return self

    def module(self, module: nn.Module) -> Statics:
        """Allow reading all tensors a module holds; returns itself."""
        self._modules.append((module, _addresses(module)))
        return self.constants(module_tensors(module))

    def readable(self, tensor: Tensor) -> bool:
        """Whether captured work may read it."""
        if tensor.numel() == 0:
            return True
        at = address(tensor)
        return at in self._constants or at in self._buffers

    def writable(self, tensor: Tensor) -> bool:
        """Whether captured work may write to it."""
        return tensor.numel() == 0 or address(tensor) in self._buffers

    def moved(self) -> bool:
        """Whether a module's tensor, or a buffer given alone, is no longer where it was."""
        apart = {**self._constants, **self._buffers}.items()
        if any(address(tensor) != at for at, tensor in apart):
            return True
        return any(not _addresses(module) <= known for module, known in self._modules)


def module_tensors(module: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and tensors that are plain attributes of a module or its children."""
    for each in module.modules():
        for values in (each._parameters, each._buffers, vars(each)):
            for name, value in values.items():
                if name not in ("_parameters", "_buffers", "_modules"):
                    yield from tensors_in(value)


def tensors_in(value: object) -> Iterator[Tensor]:
    """Tensors in dataclasses, sequences and mappings, however deep."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in([getattr(value, field.name) for field in fields(value)])


def _addresses(module: nn.Module) -> frozenset[int]:
    return frozenset(address(each) for each in module_tensors(module) if each.numel())
