"""Causal layers that carry something of every row from one call to the next.

What a layer carries is kept outside it, in a dictionary keyed by the layer's name in the model,
so that one model serves many streams. Zeros mean the beginning of a stream, which is the zero
padding of the same layer applied to a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Carry:
    """One call's view of what is carried: tensors [B, …] by place, updated in place.

    ``active`` [B] bool leaves what the other rows carry as it is; None means all rows.
    """

    held: Mapping[str, Tensor]
    active: Tensor | None = None

    def keep(self, place: str, new: Tensor) -> None:
        """Replace what is held at ``place`` by ``new``, a tensor that is not a view of it."""
        held = self.held[place]
        held.copy_(self.chosen(new, held))

    def chosen(self, new: Tensor, old: Tensor) -> Tensor:
        """``new`` [B, …] for active rows, ``old`` for the others."""
        if self.active is None:
            return new
        return torch.where(self.active.view(-1, *(1,) * (new.ndim - 1)), new, old)


class Carrying(nn.Module):
    """Base of layers with a carried state; ``place`` is the layer's name in the model."""

    place = ""

    def carried(self) -> Shapes:
        """Shapes, without the batch dimension, by the last part of the place."""
        return {}


def name_places(model: nn.Module) -> None:
    """Tell every carrying layer of ``model`` its own name."""
    for name, layer in model.named_modules():
        if isinstance(layer, Carrying):
            layer.place = name


def carried_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """All that one row of ``model`` carries: shapes by place."""
    return {
        f"{layer.place}.{last}": shape
        for layer in model.modules()
        if isinstance(layer, Carrying)
        for last, shape in layer.carried().items()
    }


class CausalConv1d(Carrying):
    """A convolution that sees the past only: carries its last inputs [B, inputs, reach].

    ``forward`` takes [B, inputs, T] and gives [B, outputs, ceil(T / stride)]. An input that is no
    multiple of the stride is completed with zeros, which only the last of a stream may be.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        dilation: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            inputs, outputs, kernel, stride=stride, dilation=dilation, groups=groups
        )
        self.inputs, self.stride = inputs, stride
        self.reach = (kernel - 1) * dilation + 1 - stride

    def carried(self) -> Shapes:
        """The inputs that the next outputs still see."""
        return {"history": (self.inputs, self.reach)} if self.reach else {}

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """One piece of the stream."""
        if missing := -x.shape[-1] % self.stride:
            x = functional.pad(x, (0, missing))
        if self.reach:
            place = f"{self.place}.history"
            x = torch.cat((carry.held[place], x), -1)
            carry.keep(place, x[..., -self.reach :])
        out: Tensor = self.conv(x)
        return out


class CausalTransposedConv1d(Carrying):
    """A transposed convolution without its last ``kernel - stride`` outputs.

    They are what the next piece adds to: carried as [B, outputs, kernel - stride], without bias.
    ``forward`` takes [B, inputs, T] and gives [B, outputs, T * stride].
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(inputs, outputs, kernel, stride=stride)
        self.outputs, self.stride = outputs, stride
        self.overlap = kernel - stride

    def carried(self) -> Shapes:
        """What the next outputs begin with."""
        return {"overlap": (self.outputs, self.overlap)} if self.overlap else {}

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """One piece of the stream."""
        bias = self.conv.bias
        if not self.overlap:
            out: Tensor = self.conv(x)
            return out
        length = x.shape[-1] * self.stride
        wide = functional.conv_transpose1d(x, self.conv.weight, stride=self.stride)
        place = f"{self.place}.overlap"
        wide[..., : self.overlap] += carry.held[place]
        carry.keep(place, wide[..., length:])
        return wide[..., :length] if bias is None else wide[..., :length] + bias[:, None]
