"""Linear maps, alone and several of one input as one."""

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
    """``nn.Linear`` that is fast for a single vector, too."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__(inputs, outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [..., inputs] to [..., outputs]."""
        return apply(self.weight, x, self.bias)


class Joining(nn.Module):
    """Holds linear maps of one input that are computed as one, once they are joined.

    They keep their names and become views of the whole, so nothing is held twice. A map that gets
    another weight (not other values) must be joined again. Quantized maps are joined once, and have
    no weight of their own afterwards.
    """

    joined: Tensor | Matrix | None = None
    joined_bias: Tensor | None = None

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
        biases = [part.bias.detach() for part in parts if part.bias is not None]
        whole = torch.cat([part.weight.detach() for part in parts])
        self._share(whole, torch.cat(biases) if biases else None)

    def join_empty(self, dtype: torch.dtype, device: torch.device) -> None:
        """Join them before loading: what is then copied into a map is in its place at once."""
        parts = self.parts()
        outputs = sum(part.out_features for part in parts)
        whole = torch.empty(outputs, parts[0].in_features, dtype=dtype, device=device)
        biased = parts[0].bias is not None
        self._share(whole, torch.empty(outputs, dtype=dtype, device=device) if biased else None)

    def _share(self, whole: Tensor, bias: Tensor | None) -> None:
        """Make the maps views of ``whole`` [outputs of all, inputs] and ``bias``."""
        self.joined, self.joined_bias = whole, bias
        start = 0
        for part in self.parts():
            place = slice(start, start + part.out_features)
            part.weight = nn.Parameter(whole[place], requires_grad=False)
            if bias is not None:
                part.bias = nn.Parameter(bias[place], requires_grad=False)
            start = place.stop

    def all_parts(self, x: Tensor) -> Tensor:
        """``x`` [..., inputs] to the outputs of all maps, one after the other."""
        if self.joined is None:
            return torch.cat([part(x) for part in self.parts()], -1)
        return apply(self.joined, x, self.joined_bias)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Whatever moves or converts the maps takes them apart."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if isinstance(self.joined, Tensor):
            self.join()
        return self


def apply(weight: Tensor | Matrix, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x`` [..., inputs] through ``weight`` [outputs, inputs], plus ``bias`` [outputs].

    A quantized matrix has its bias in itself.

    A single vector goes through a matrix-vector product, which reads bfloat16 weights about a third
    faster on a CPU than the general product does.
    """
    if not isinstance(weight, Tensor):
        return weight(x)
    if x.numel() == weight.shape[1]:
        vector = x.reshape(-1)
        out = torch.mv(weight, vector) if bias is None else torch.addmv(bias, weight, vector)
        return out.view(*x.shape[:-1], -1)
    return functional.linear(x, weight, bias)


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
