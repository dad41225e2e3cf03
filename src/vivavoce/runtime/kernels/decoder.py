"""A decoder stack made of kernels: five launches a layer, whatever the number of rows.

It reads the weights of ``layers.decoder`` modules and computes what they compute.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vivavoce.errors import InputError
from vivavoce.runtime.kernels.attention import Cache, Heads, Scratch
from vivavoce.runtime.kernels.dispatch import Kernels
from vivavoce.runtime.kernels.linear import Norm
from vivavoce.runtime.nn.decoder import Decoder, DecoderLayer
from vivavoce.runtime.nn.kv import KVBuffer
from vivavoce.runtime.nn.linear import Joining
from vivavoce.runtime.nn.norm import RMSNorm
from vivavoce.runtime.nn.quantize import Matrix, QuantizedLinear, WeightOnly
from vivavoce.runtime.nn.rope import RopeTable
from vivavoce.runtime.nn.weights import Precision, Weight, quantize, stack

PACKED = "These weights are packed for a CPU's own kernels."


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer: what reads the same input stands in one matrix."""

    heads: Heads
    before: Norm
    qkv: Weight
    out: Weight
    between: Norm
    gate_up: Weight
    down: Weight

    @classmethod
    def of(cls, layer: DecoderLayer, precision: Precision) -> LayerWeights:
        """A layer's matrices and norms, in its own memory where nothing is left to do.

        What is quantized already stays as it is. Raises InputError for what is packed for a CPU.
        """
        attention, mlp, shape = layer.self_attn, layer.mlp, layer.self_attn.shape
        q_norm, k_norm = norm_of(attention.q_norm), norm_of(attention.k_norm)
        return cls(
            Heads(shape.heads, shape.kv_heads, shape.head_dim, q_norm, k_norm),
            norm_of(layer.input_layernorm),
            joined_weight(attention, precision),
            weight_of(attention.o_proj, precision),
            norm_of(layer.post_attention_layernorm),
            joined_weight(mlp, precision),
            weight_of(mlp.down_proj, precision),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the matrices: what one pass reads."""
        return sum(each.nbytes for each in (self.qkv, self.out, self.gate_up, self.down))


@dataclass(frozen=True, slots=True)
class Place:
    """Where B rows stand; ``positions``, ``active`` and ``scratch`` as in ``attention.Cache``."""

    rope: RopeTable
    kv: KVBuffer
    positions: Tensor
    active: Tensor | None = None
    scratch: Scratch | None = None

    def cache(self, layer: int) -> Cache:
        """One layer's buffers."""
        keys, values = self.kv.keys[layer], self.kv.values[layer]
        return Cache(keys, values, self.positions, self.active, self.scratch)


@dataclass(frozen=True, slots=True)
class FusedDecoder:
    """The layers of a ``Decoder`` and its final norm."""

    kernels: Kernels
    layers: tuple[LayerWeights, ...]
    norm: Norm

    @classmethod
    def of(cls, decoder: Decoder, kernels: Kernels, precision: Precision) -> FusedDecoder:
        """``decoder`` may be dropped afterwards. See ``LayerWeights.of``."""
        plain = [layer for layer in decoder.layers if isinstance(layer, DecoderLayer)]
        if len(plain) < len(decoder.layers):
            raise InputError(PACKED, param="quantize")
        layers = tuple(LayerWeights.of(layer, precision) for layer in plain)
        return cls(kernels, layers, norm_of(decoder.norm))

    @property
    def nbytes(self) -> int:
        """Bytes that one pass reads."""
        return sum(layer.nbytes for layer in self.layers)

    def step(self, x: Tensor, at: Place) -> Tensor:
        """``x`` [B, T, hidden] to [B, T, hidden] before the final norm; fills the KV buffer.

        ``kernels.normalize`` or the next projection applies the norm.
        """
        rows, steps, hidden = x.shape
        flat = x.reshape(rows * steps, hidden)
        for number, layer in enumerate(self.layers):
            flat = self._layer(flat, rows, layer, at.rope, at.cache(number))
        return flat.view(rows, steps, hidden)

    def _layer(
        self, x: Tensor, rows: int, layer: LayerWeights, rope: RopeTable, cache: Cache
    ) -> Tensor:
        kernels = self.kernels
        qkv = kernels.linear(x, layer.qkv, layer.before)
        mixed = kernels.attend(qkv.view(rows, -1, layer.heads.width), layer.heads, rope, cache)
        x = kernels.linear(mixed.flatten(0, 1), layer.out, None, x)
        return kernels.linear(kernels.gated(x, layer.gate_up, layer.between), layer.down, None, x)


def norm_of(norm: RMSNorm) -> Norm:
    """The norm of a module, sharing its weight."""
    return Norm(norm.weight.detach(), norm.eps)


def joined_weight(part: Joining, precision: Precision) -> Weight:
    """The maps of one input as one matrix, as they were joined or joined here."""
    if part.joined is None:
        return stack([weight_of(each, precision) for each in part.parts()])
    if isinstance(part.joined, Tensor):
        return quantize(part.joined, precision)
    return _held(part.joined)


def weight_of(part: nn.Module, precision: Precision) -> Weight:
    """The matrix of a map, which may be quantized or not."""
    if isinstance(part, QuantizedLinear):
        return part.weight if part.weight is not None else _held(part.matrix)
    assert isinstance(part, nn.Linear)
    return quantize(part.weight.detach(), precision)


def _held(matrix: Matrix | None) -> Weight:
    if not isinstance(matrix, WeightOnly):
        raise InputError(PACKED, param="quantize")
    return matrix.weight
