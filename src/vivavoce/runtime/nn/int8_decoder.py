"""A decoder layer of packed int8 matrices on a CPU, in as few operations as it can be said in.

With int8 weights a layer of one row takes a millisecond, of which the operations between the
matrices were a third. What is rounded where differs from ``layers.decoder``, so only quantized
layers, which have no reference to agree with bit by bit, are computed in this way.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.runtime.nn.decoder import Attention, Decoder, DecoderLayer, SwiGLU
from vivavoce.runtime.nn.int8_cpu import Before, DynamicInt8
from vivavoce.runtime.nn.kv import KVBuffer, Placement
from vivavoce.runtime.nn.norm import RMSNorm
from vivavoce.runtime.nn.quantize import QuantizedLinear, Unlisted


class Int8DecoderLayer(Unlisted):
    """In the place of a ``DecoderLayer`` whose matrices are packed; float32. It shares them."""

    def __init__(self, layer: DecoderLayer) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.shape = attention.shape
        self._qkv, self._out = _joined(attention), _single(attention.o_proj)
        self._gate_up, self._down = _joined(mlp), _single(mlp.down_proj)
        self._before = _norm(layer.input_layernorm)
        self._between = _norm(layer.post_attention_layernorm)
        assert attention.scales is not None
        self._heads = Before.of(attention.scales, self.shape.norm_eps)

    @property
    def nbytes(self) -> int:
        """Memory of the matrices."""
        return sum(each.nbytes for each in (self._qkv, self._out, self._gate_up, self._down))

    def forward(self, x: Tensor, at: Placement, kv: KVBuffer, layer: int) -> Tensor:
        """``x`` [B, T, hidden] to the same shape; writes this layer's keys and values."""
        x = self._out.added(self._mixed(self._qkv.normed(x, self._before), at, kv, layer), x)
        gate, up = self._gate_up.normed(x, self._between).chunk(2, -1)
        return self._down.added(functional.silu(gate).mul_(up), x)

    def _mixed(self, qkv: Tensor, at: Placement, kv: KVBuffer, layer: int) -> Tensor:
        """[B, T, width] to [B, T, heads * head_dim]."""
        shape, (rows, steps, _) = self.shape, qkv.shape
        every = qkv.view(rows, steps, -1, shape.head_dim).transpose(1, 2)
        turned = self._turned(every[:, : -shape.kv_heads], at)
        kv.write(layer, at, turned[:, shape.heads :], every[:, -shape.kv_heads :])
        keys, values = kv.read(layer, at.span)
        groups, mask = shape.heads // shape.kv_heads, at.mask
        query = turned[:, : shape.heads].reshape(rows, shape.kv_heads, groups * steps, -1)
        if mask is not None and steps > 1:
            mask = mask.repeat(1, 1, groups, 1)
        out = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return out.reshape(rows, shape.heads, steps, -1).transpose(1, 2).flatten(2)

    def _turned(self, x: Tensor, at: Placement) -> Tensor:
        """Norm and rotation of queries and keys, as ``rope.rotate`` has it."""
        x = (x / self._heads.length(x)).mul_(self._heads.weight)
        swapped = torch.unflatten(x, -1, (2, -1)).flip(-2).flatten(-2)
        return torch.addcmul(x * at.cos, swapped, at.sin)


def shorten(decoder: Decoder) -> bool:
    """Replace the layers if they are float32 over packed matrices; whether they were."""
    if not all(_fits(layer) for layer in decoder.layers):
        return False
    for number, layer in enumerate(decoder.layers):
        assert isinstance(layer, DecoderLayer)
        decoder.layers[number] = Int8DecoderLayer(layer)
    return True


def _fits(layer: nn.Module) -> bool:
    if not isinstance(layer, DecoderLayer):
        return False
    packed = isinstance(layer.self_attn.joined, DynamicInt8)
    return packed and layer.input_layernorm.weight.dtype == torch.float32


def _norm(norm: RMSNorm) -> Before:
    return Before.of(norm.weight, norm.eps)


def _joined(part: Attention | SwiGLU) -> DynamicInt8:
    assert isinstance(part.joined, DynamicInt8)
    return part.joined


def _single(part: nn.Module) -> DynamicInt8:
    assert isinstance(part, QuantizedLinear)
    part.prepare()
    assert isinstance(part.matrix, DynamicInt8)
    return part.matrix
