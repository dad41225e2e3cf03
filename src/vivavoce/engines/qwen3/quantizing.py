"""Which weights of a talker are quantized, as they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vivavoce.runtime.nn.linear import Linear
from vivavoce.runtime.nn.quantize import Few, QuantizedEmbedding, QuantizedLinear
from vivavoce.runtime.nn.weights import Precision, quantize

READ_BY_FRAMES = ("model.layers.", "code_predictor.")
"""All that a frame reads but the head of code 0, which decides where speech ends, and the text's
projection: 1 % of the bytes. The one before the code predictor of 1.7B stays as well: kernels read
it once a frame, 4.2 of 2,660 MB, and its error would be in all that the predictor hears."""

TEXT_TABLE = "model.text_embedding.weight"
"""A third of all weights of 0.6B, of which a frame reads one row: int8 with any precision."""


SCALE_BYTES = 4
"""One for each row of a matrix."""


@dataclass(frozen=True, slots=True)
class Quantizing:
    """A ``checkpoint.Swap``: one matrix at a time, so that no float copy of them is kept.

    ``dtype`` is that of activations; ``few``: see ``layers.quantized.WeightOnly``.
    """

    precision: Precision
    dtype: torch.dtype
    device: torch.device
    few: Few | None = None

    def __call__(self, name: str, owner: nn.Module) -> Callable[[Tensor], nn.Module] | None:
        """What makes the replacement of ``owner``, which holds the tensor ``name``."""
        if self.precision is Precision.NONE:
            return None
        if name == TEXT_TABLE:
            return self._table
        if name.startswith(READ_BY_FRAMES) and isinstance(owner, Linear):
            return self._map
        return None

    def _map(self, stored: Tensor) -> nn.Module:
        return QuantizedLinear(quantize(stored.to(self.device), self.precision), self.few)

    def _table(self, stored: Tensor) -> nn.Module:
        """On the CPU: whole, it is more than a small GPU has to spare."""
        return QuantizedEmbedding(stored, self.dtype).to(self.device)


def weights_bytes(talker: nn.Module, quantizing: Quantizing, prefix: str = "") -> int:
    """Memory that a talker's weights below ``prefix`` take on a GPU; it may be on the meta device.

    Scratch of kernels and what an allocator rounds up to are not in it.
    """
    total = 0
    for name, tensor in talker.state_dict(keep_vars=True).items():
        if not name.startswith(prefix):
            continue
        owner = talker.get_submodule(name.rpartition(".")[0])
        if quantizing(name, owner) is None:
            total += tensor.numel() * quantizing.dtype.itemsize
        else:
            total += tensor.numel() + SCALE_BYTES * len(tensor)
    return total
