"""Linear maps without bias, alone and several of one input as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.runtime.nn.quantize import (
    Matrix,
    QuantizedLinear,
    Unlisted,
    WeightOnly,
    prepared,
)
from vivavoce.runtime.nn.weights import stack


class Linear(nn.Linear):
    """``nn.Linear`` without bias that is fast for a single vector, too."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [..., inputs] to [..., outputs]."""
        return apply(self.weight, x)


class Joining(nn.Module):
    """Holds linear maps of one input that are computed as one, once they are joined.

    They keep their names and become views of the whole, so nothing is held twice. A map that gets
    another weight (not other values) must be joined again. Quantized maps are joined once, and have
    no weight of their own afterwards.
    """

    joined: Tensor | Matrix | None = None

    def parts(self) -> tuple[Linear, ...]:
        """The maps, in the order of their outputs."""
        raise NotImplementedError

    def join(self) -> None:
        """Join them, after loading."""
        parts = self.parts()
        every: tuple[nn.Module, ...] = parts
        quantized = [part for part in every if isinstance(part, QuantizedLinear)]
        if quantized:
            self.joined = prepared(stack([part.take() for part in quantized]), quantized[0].few)
            return
        whole = torch.cat([part.weight.detach() for part in parts])
        self.joined = whole
        pieces = torch.split(whole, [part.out_features for part in parts])
        for part, piece in zip(parts, pieces, strict=True):
            part.weight = nn.Parameter(piece, requires_grad=False)

    def all_parts(self, x: Tensor) -> Tensor:
        """``x`` [..., inputs] to the outputs of all maps, one after the other."""
        if self.joined is None:
            return torch.cat([part(x) for part in self.parts()], -1)
        return apply(self.joined, x)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Whatever moves or converts the maps takes them apart."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if isinstance(self.joined, Tensor):
            self.join()
        return self


def apply(weight: Tensor | Matrix, x: Tensor) -> Tensor:
    """``x`` [..., inputs] through ``weight`` [outputs, inputs].

    A single vector goes through a matrix-vector product, which reads bfloat16 weights about a third
    faster on a CPU than the general product does.
    """
    if not isinstance(weight, Tensor):
        return weight(x)
    if x.numel() == weight.shape[1]:
        return torch.mv(weight, x.reshape(-1)).view(*x.shape[:-1], -1)
    return functional.linear(x, weight)


@contextmanager
def without_few(module: nn.Module) -> Iterator[None]:
    """Quantized maps below ``module`` are computed by plain PyTorch meanwhile."""
    held = list(_few_held(module))
    try:
        for part, name, matrix in held:
            setattr(part, name, WeightOnly(matrix.weight))
        yield
    finally:
        for part, name, matrix in held:
            setattr(part, name, matrix)


def forget_few(module: nn.Module) -> None:
    """Quantized maps below ``module`` are computed by plain PyTorch from now on."""
    for part, name, matrix in list(_few_held(module)):
        setattr(part, name, WeightOnly(matrix.weight))


def has_few(module: nn.Module) -> bool:
    """Whether a kernel computes any map below ``module``."""
    return any(True for _ in _few_held(module))


def _few_held(module: nn.Module) -> Iterator[tuple[nn.Module, str, WeightOnly]]:
    """Who holds a matrix with a kernel, by what name, and the matrix."""
    for part in module.modules():
        for name in ("joined", "matrix"):
            matrix = getattr(part, name, None)
            if isinstance(matrix, WeightOnly) and matrix.few is not None:
                yield part, name, matrix


def quantized_bytes(module: nn.Module) -> int:
    """Memory of all quantized maps below ``module``, which ``state_dict`` does not list."""
    total = 0
    for part in module.modules():
        if isinstance(part, Unlisted):
            total += part.nbytes
        elif isinstance(part, Joining) and not isinstance(part.joined, Tensor | None):
            total += part.joined.nbytes
    return total
