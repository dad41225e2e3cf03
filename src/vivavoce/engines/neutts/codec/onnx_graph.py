"""The decoder as an ONNX graph, written straight from the weights.

Input ``codes`` int32 [B, 1, T], output ``audio`` float32 [B, 1, 480 * T]: the published graph's
names. Everything is [B, T, channels], so that each convolution is one matrix product over the
neighbors of a code side by side, which ONNX Runtime computes faster than its one-dimensional
convolutions. The two linear layers before the network are multiplied out into one.

In ``int8`` the large matrices are stored with a scale a column, and what they are multiplied with
is quantized as it comes; ``int8-layers`` leaves the convolutions in float32. The first layer, the
head and the ISTFT always stay in float32, being small and what phases depend on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from onnx import TensorProto, helper

from vivavoce.engines.neutts.codec.network import (
    BACKBONE,
    BASIS,
    BINS,
    CUT,
    EPSILON,
    FRAME,
    GROUPS,
    HEAD,
    HEAD_DIM,
    LEVELS,
    MAX_MAGNITUDE,
    POST,
    QUANTIZER,
    RESIDUAL_BLOCKS,
    DecoderShape,
    half_bases,
    hann,
)
from vivavoce.engines.neutts.codec.onnx_nodes import Array, GraphBuilder, Name, Store, inside
from vivavoce.engines.neutts.codec.stream import HOP
from vivavoce.runtime.torch_zip import Floats

Precision: TypeAlias = Literal["float32", "int8", "int8-layers"]
Read: TypeAlias = Callable[[str], Floats]
"""Gives a tensor by its published name."""

INPUT, OUTPUT = "codes", "audio"
MIDDLE = 128
LARGEST = 127


@dataclass(frozen=True, slots=True)
class Quantized:
    """Which products are in int8; ``unsigned`` stores weights w as w + 128, to the same effect.

    x86 processors without VNNI add products of uint8 and int8 in 16 bits, which overflow; those
    of two uint8 they add in 32.
    """

    layers: bool = False
    convolutions: bool = False
    unsigned: bool = False

    @classmethod
    def of(cls, precision: Precision, *, unsigned: bool) -> Quantized:
        """What a precision means."""
        return cls(precision != "float32", precision == "int8", unsigned)


def decoder_graph(shape: DecoderShape, read: Read, store: Store, quantized: Quantized) -> Any:
    """The graph as an ONNX model; large arrays go through ``store``."""
    graph = GraphBuilder(store)
    sound = _Decoder(graph, shape, read, quantized).decode(INPUT)
    inputs = [helper.make_tensor_value_info(INPUT, TensorProto.INT32, ["batch", 1, "codes"])]
    outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 1, "samples"])]
    graph.nodes.append(helper.make_node("Identity", [sound], [OUTPUT], name="output"))
    return graph.model(inputs, outputs, "vivavoce")


def quantized_columns(matrix: Floats) -> tuple[Array, Floats]:
    """A matrix [in, out] as int8 and the scale of each column: matrix ~ int8 * scale."""
    scales = np.abs(matrix).max(0) / np.float32(LARGEST)
    scales[scales == 0] = 1
    return np.rint(matrix / scales).astype(np.int8), scales.astype(np.float32)


def write_single_file(path: Path, shape: DecoderShape, read: Read) -> None:
    """A float32 graph with its weights inside. Raises OSError."""
    path.write_bytes(decoder_graph(shape, read, inside, Quantized()).SerializeToString())


@dataclass(frozen=True, slots=True)
class _Decoder:
    graph: GraphBuilder
    shape: DecoderShape
    read: Read
    quantized: Quantized

    def decode(self, codes: Name) -> Name:
        """[B, 1, T] int32 to [B, 1, 480 * T]."""
        graph = self.graph
        x = self._vectors(codes)
        x = self._first(x)
        x = self._convolution(x, f"{BACKBONE}.embed")
        x = self._blocks(x, "prior_net")
        for layer in range(self.shape.depth):
            x = self._transformer(x, f"{BACKBONE}.transformers.{layer}")
        x = self._blocks(x, "post_net")
        norm = f"{BACKBONE}.final_layer_norm"
        scale, bias = self._tensor(f"{norm}.weight"), self._tensor(f"{norm}.bias")
        x = graph.op("LayerNormalization", x, scale, bias, epsilon=EPSILON)
        x = self._plain(x, HEAD, self.read(f"{HEAD}.weight").T, self.read(f"{HEAD}.bias"))
        return self._istft(x)

    def _vectors(self, codes: Name) -> Name:
        graph = self.graph
        graph.initializers["basis"] = inside("basis", BASIS)
        graph.initializers["levels"] = inside("levels", np.array(LEVELS, np.int32))
        column = graph.op("Transpose", codes, perm=[0, 2, 1])
        digits = graph.op("Mod", graph.op("Div", column, "basis"), "levels")
        centred = graph.op("Sub", graph.op("Cast", digits, to=TensorProto.FLOAT), graph.scalar(2.0))
        return graph.op("Mul", centred, graph.scalar(0.5))

    def _first(self, x: Name) -> Name:
        """Both layers from the digits to the network: (x P + p) F + f = x (P F) + (p F + f)."""
        project = self.read(f"{QUANTIZER}.weight").T.astype(np.float64)
        post = self.read(f"{POST}.weight").T.astype(np.float64)
        bias = self.read(f"{QUANTIZER}.bias") @ post + self.read(f"{POST}.bias")
        return self._plain(x, "first", project @ post, bias)

    def _blocks(self, x: Name, net: str) -> Name:
        for block in range(RESIDUAL_BLOCKS):
            at = f"{BACKBONE}.{net}.{block}"
            y = x
            for number in (1, 2):
                y = self._swish(self._group_norm(y, f"{at}.norm{number}"))
                y = self._convolution(y, f"{at}.conv{number}")
            x = self.graph.op("Add", x, y)
        return x

    def _transformer(self, x: Name, at: str) -> Name:
        graph = self.graph
        y = self._attention(self._rms_norm(x, f"{at}.att_norm.weight"), f"{at}.att")
        x = graph.op("Add", x, y)
        y = self._matrix(self._rms_norm(x, f"{at}.ffn_norm.weight"), f"{at}.mlp.fc1")
        return graph.op("Add", x, self._matrix(self._swish(y), f"{at}.mlp.fc2"))

    def _attention(self, x: Name, at: str) -> Name:
        """Every code sees every code; [B, T, 3 * hidden] holds queries, keys, values by head."""
        graph = self.graph
        parts = graph.ops("Split", 3, self._matrix(x, f"{at}.c_attn"), axis=2)
        query, key, value = (
            graph.reshape(part, 0, 0, self.shape.heads, HEAD_DIM) for part in parts
        )
        query = graph.op("Mul", query, graph.scalar(HEAD_DIM**-0.5))
        query = graph.op("Transpose", query, perm=[0, 2, 1, 3])
        scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 2, 3, 1]))
        value = graph.op("Transpose", value, perm=[0, 2, 1, 3])
        seen = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value)
        joined = graph.op("Transpose", seen, perm=[0, 2, 1, 3])
        return self._matrix(graph.reshape(joined, 0, 0, self.shape.hidden), f"{at}.c_proj")

    def _rms_norm(self, x: Name, weight: str) -> Name:
        graph = self.graph
        square = graph.op("Pow", x, graph.scalar(2.0))
        mean = graph.op("ReduceMean", square, axes=[-1], keepdims=1)
        root = graph.op("Sqrt", graph.op("Add", mean, graph.scalar(EPSILON)))
        return graph.op("Mul", graph.op("Div", x, root), self._tensor(weight))

    def _group_norm(self, x: Name, at: str) -> Name:
        """Over all codes and each of 32 groups of channels."""
        graph = self.graph
        split = graph.reshape(x, 0, 0, GROUPS, -1)
        mean = graph.op("ReduceMean", split, axes=[1, 3], keepdims=1)
        centred = graph.op("Sub", split, mean)
        spread = graph.op("ReduceMean", graph.op("Mul", centred, centred), axes=[1, 3], keepdims=1)
        root = graph.op("Sqrt", graph.op("Add", spread, graph.scalar(EPSILON)))
        joined = graph.reshape(graph.op("Div", centred, root), 0, 0, self.shape.hidden)
        scaled = graph.op("Mul", joined, self._tensor(f"{at}.weight"))
        return graph.op("Add", scaled, self._tensor(f"{at}.bias"))

    def _swish(self, x: Name) -> Name:
        return self.graph.op("Mul", x, self.graph.op("Sigmoid", x))

    def _convolution(self, x: Name, at: str) -> Name:
        """Of odd length, zeros at both ends: neighbors side by side times [k * in, out]."""
        weight = self.read(f"{at}.weight")
        outputs, inputs, kernel = weight.shape
        graph, side = self.graph, kernel // 2
        padded = graph.op("Pad", x, graph.ints(0, side, 0, 0, side, 0))
        views = [graph.slice(padded, 1, i, i - 2 * side or 1 << 62) for i in range(kernel)]
        matrix = weight.transpose(2, 1, 0).reshape(kernel * inputs, outputs)
        rows = graph.op("Concat", *views, axis=2)
        y = self._product(rows, at, matrix, self.quantized.convolutions)
        return graph.op("Add", y, self._tensor(f"{at}.bias"))

    def _matrix(self, x: Name, at: str) -> Name:
        return self._product(x, at, self.read(f"{at}.weight").T, self.quantized.layers)

    def _product(self, x: Name, at: str, matrix: Array, quantize: bool) -> Name:
        """``x`` times a large matrix [in, out], in float32 or with both in eight bits."""
        graph = self.graph
        if not quantize:
            return graph.op("MatMul", x, graph.weight(f"{at}.matrix", matrix))
        small, small_scale, zero = graph.ops("DynamicQuantizeLinear", 3, x)
        whole, scales = quantized_columns(matrix)
        inputs = [small, graph.weight(f"{at}.matrix", self._stored(whole)), zero]
        if self.quantized.unsigned:
            graph.initializers["middle"] = inside("middle", np.array(MIDDLE, np.uint8))
            inputs.append("middle")
        wide = graph.op("Cast", graph.op("MatMulInteger", *inputs), to=TensorProto.FLOAT)
        scale = graph.op("Mul", small_scale, graph.weight(f"{at}.scale", scales))
        return graph.op("Mul", wide, scale)

    def _stored(self, whole: Array) -> Array:
        return (
            (whole.astype(np.int16) + MIDDLE).astype(np.uint8) if self.quantized.unsigned else whole
        )

    def _plain(self, x: Name, name: str, matrix: Array, bias: Array) -> Name:
        """A linear layer in float32 whatever the precision."""
        graph = self.graph
        weights = graph.weight(f"{name}.matrix", matrix.astype(np.float32))
        y = graph.op("MatMul", x, weights)
        return graph.op("Add", y, graph.weight(f"{name}.bias", bias.astype(np.float32)))

    def _tensor(self, name: str) -> Name:
        return self.graph.weight(name, self.read(name))

    def _istft(self, x: Name) -> Name:
        """[B, T, 1922] (log magnitudes, phases) to [B, 1, 480 * T]."""
        graph = self.graph
        magnitude, phase = graph.ops("Split", 2, x, axis=2)
        size = graph.op("Min", graph.op("Exp", magnitude), graph.scalar(MAX_MAGNITUDE))
        cosines, sines = (base.astype(np.float32) for base in half_bases())
        real = graph.op("Mul", size, graph.op("Cos", phase))
        imaginary = graph.op("Mul", size, graph.op("Sin", phase))
        even = graph.op("MatMul", real, graph.weight("istft.even", cosines))
        odd = graph.op("MatMul", imaginary, graph.weight("istft.odd", sines))
        tail = graph.op("Slice", graph.op("Sub", even, odd), *map(graph.ints, (BINS - 2, 0, 2, -1)))
        frames = graph.op("Concat", graph.op("Add", even, odd), tail, axis=2)
        total = self._overlap(graph.reshape(frames, 0, 0, FRAME // HOP, HOP))
        sound = graph.op("Div", total, self._energy(frames))
        flat = graph.reshape(sound, 0, 1, -1)
        return graph.slice(flat, 2, CUT, -CUT)

    def _overlap(self, quarters: Name) -> Name:
        """Frames in quarters [B, T, 4, 480], each a hop after the last, summed: [B, T + 3, 480]."""
        graph, count = self.graph, FRAME // HOP
        parts = []
        for number in range(count):
            part = graph.op("Squeeze", graph.slice(quarters, 2, number, number + 1), graph.ints(2))
            parts.append(graph.op("Pad", part, graph.ints(0, number, 0, 0, count - 1 - number, 0)))
        return graph.op("Sum", *parts)

    def _energy(self, frames: Name) -> Name:
        """The windows' energy where ``frames`` overlap; 1 at the ends, which are cut."""
        graph = self.graph
        window = np.square(hann()).reshape(1, 1, FRAME // HOP, HOP).astype(np.float32)
        count = graph.op("Shape", frames, start=1, end=2)
        shape = graph.op("Concat", graph.ints(1), count, graph.ints(1, 1), axis=0)
        energy = self._overlap(graph.op("Expand", graph.weight("istft.energy", window), shape))
        return graph.op("Max", energy, graph.scalar(1e-11))
