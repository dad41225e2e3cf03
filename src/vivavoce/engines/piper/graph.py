"""Cutting an exported VITS graph into three: encoder, flow, decoder.

A Piper voice is one graph from phoneme numbers to sound, with two random-normal nodes inside.
Streaming needs the decoder alone, and exactness needs the noise as an input:

- encoder: ``input``, ``input_lengths``, ``scales`` (``sid``), ``duration_noise`` (1, 2, n)
  → ``durations`` (1, 1, n) in frames, ``mean`` and ``log_std`` (1, c, n) per phoneme
- flow: ``prior`` (1, c, t) (``sid``) → ``latent`` (1, c, t)
- decoder: ``latent`` (1, c, t) (``sid``) → ``audio``, t × hop samples

What the original does between encoder and flow (repeating each phoneme by its duration and adding
noise) is a few lines of numpy. The places to cut are found by structure, as node names differ
between exports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vivavoce.errors import ModelFileError

Node = Any
"""An onnx.NodeProto; the onnx package's generated types are not visible to type checkers."""


@dataclass(frozen=True, slots=True)
class CutPoints:
    """Tensor names of the original graph at which it is cut."""

    duration_noise: str
    durations: str
    mean: str
    log_std: str
    prior: str
    mask: str
    latent: str
    audio: str


class Graph:
    """An ONNX graph with look-ups by tensor name."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.nodes: list[Node] = list(model.graph.node)
        self.inputs = {value.name: value for value in model.graph.input}
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producer: dict[str, Node] = {name: node for node in self.nodes for name in node.output}

    def of_type(self, kind: str) -> list[Node]:
        """All nodes of one operator, in order."""
        return [node for node in self.nodes if node.op_type == kind]

    def consumers(self, tensor: str) -> list[Node]:
        """The nodes that read a tensor."""
        return [node for node in self.nodes if tensor in node.input]

    def ancestors(self, tensor: str) -> set[str]:
        """Every tensor that ``tensor`` is computed from, itself included."""
        seen: set[str] = set()
        stack = [tensor]
        while stack:
            name = stack.pop()
            if name and name not in seen:
                seen.add(name)
                stack.extend(self.producer[name].input if name in self.producer else ())
        return seen

    def descendants(self, tensor: str) -> set[str]:
        """Every tensor computed from ``tensor``, itself included (nodes are in order)."""
        seen = {tensor}
        for node in self.nodes:
            if seen.intersection(node.input):
                seen.update(node.output)
        return seen


def find_cut_points(graph: Graph) -> CutPoints:
    """Find where to cut. Raises ModelFileError for a graph that is not a Piper voice's."""
    noises = [node.output[0] for node in graph.of_type("RandomNormalLike")]
    ceils = [node.output[0] for node in graph.of_type("Ceil")]
    if len(noises) != 2 or not graph.of_type("ConvTranspose") or len(ceils) != 1:
        raise ModelFileError("The ONNX file is not an exported Piper voice.")
    above = graph.ancestors(ceils[0])
    first = [name for name in noises if name in above]
    second = [name for name in noises if name not in above]
    if len(first) != 1 or not {"input", "input_lengths", "scales"} <= graph.inputs.keys():
        raise ModelFileError("The ONNX file is not an exported Piper voice.")
    scaled, mean, log_std = _prior_parts(graph, second[0])
    latent = _decoder_input(graph)
    mask = _mask(graph, latent, graph.descendants(scaled))
    return CutPoints(
        first[0], ceils[0], mean, log_std, scaled, mask, latent, graph.model.graph.output[0].name
    )


def _prior_parts(graph: Graph, noise: str) -> tuple[str, str, str]:
    """From ``mean + noise * exp(log_std) * scale``: the sum, and both before their expansion."""
    times_std = _only(graph.consumers(noise), "Mul")
    exp = graph.producer[_other(times_std, noise)]
    times_scale = _only(graph.consumers(times_std.output[0]), "Mul")
    total = _only(graph.consumers(times_scale.output[0]), "Add")
    mean = _other(total, times_scale.output[0])
    return total.output[0], _before_expansion(graph, mean), _before_expansion(graph, exp.input[0])


def _before_expansion(graph: Graph, tensor: str) -> str:
    """From transpose(matmul(path, transpose(x))): x."""
    product = _walk_up(graph, tensor, "Transpose")
    return str(_walk_up(graph, _kind(graph, product, "MatMul").input[1], "Transpose"))


def _walk_up(graph: Graph, tensor: str, kind: str) -> str:
    return str(_kind(graph, tensor, kind).input[0])


def _kind(graph: Graph, tensor: str, kind: str) -> Node:
    node = graph.producer.get(tensor)
    if node is None or node.op_type != kind:
        raise ModelFileError(f"The ONNX file is not an exported Piper voice: no {kind} found.")
    return node


def _only(nodes: list[Node], kind: str) -> Node:
    if len(nodes) != 1 or nodes[0].op_type != kind:
        raise ModelFileError(f"The ONNX file is not an exported Piper voice: no single {kind}.")
    return nodes[0]


def _other(node: Node, tensor: str) -> str:
    return str(node.input[1] if node.input[0] == tensor else node.input[0])


def _decoder_input(graph: Graph) -> str:
    """Up from the first upsampling to the convolution before it, past a speaker's bias."""
    tensor = graph.of_type("ConvTranspose")[0].input[0]
    while (node := graph.producer[tensor]).op_type != "Conv":
        tensor = max(node.input, key=lambda name: _kernel(graph, name))
    return str(node.input[0])


def _kernel(graph: Graph, tensor: str) -> int:
    """The kernel length of the convolution that makes a tensor; a speaker's bias has 1."""
    node = graph.producer.get(tensor)
    if node is None:
        return -1
    return int(attribute(node, "kernel_shape")[0]) if node.op_type == "Conv" else 0


def attribute(node: Node, name: str) -> list[int]:
    """A node's list of integers."""
    return next((list(each.ints) for each in node.attribute if each.name == name), [])


def _mask(graph: Graph, latent: str, after_prior: set[str]) -> str:
    """What the flow's result is multiplied with before the decoder; all ones for one text."""
    node = _kind(graph, latent, "Mul")
    outside = [name for name in node.input if name not in after_prior]
    if len(outside) != 1:
        raise ModelFileError("The ONNX file is not an exported Piper voice: no mask found.")
    return str(outside[0])


def cut(model: Any) -> tuple[Any, Any, Any]:
    """Cut a voice into its encoder, flow and decoder models. Raises ModelFileError."""
    graph = Graph(model)
    at = find_cut_points(graph)
    encoder = extract(
        graph,
        {at.duration_noise: "duration_noise"},
        {at.durations: "durations", at.mean: "mean", at.log_std: "log_std"},
    )
    flow = extract(graph, {at.prior: "prior"}, {at.latent: "latent"}, ones=at.mask)
    decoder = extract(graph, {at.latent: "latent"}, {at.audio: "audio"})
    return encoder, flow, decoder


def extract(
    graph: Graph, inputs: Mapping[str, str], outputs: Mapping[str, str], ones: str = ""
) -> Any:
    """The part of a graph between tensors, which get new names; ``ones`` becomes a constant 1."""
    border = {*inputs, ones, *graph.inputs, *graph.weights}
    nodes, used = _between(graph, outputs, border)
    names = {**inputs, **outputs}
    parts = [_renamed(node, names) for node in nodes]
    weights = [graph.weights[name] for name in graph.weights if name in used]
    if ones in used:
        weights.append(numpy_helper.from_array(np.ones((1, 1, 1), np.float32), ones))
    given = [_value(inputs[name]) for name in inputs if name in used]
    given += [graph.inputs[name] for name in graph.inputs if name in used]
    made = [_value(name) for name in outputs.values()]
    part = helper.make_graph(parts, "part", given, made, weights)
    return helper.make_model(
        part, opset_imports=graph.model.opset_import, ir_version=graph.model.ir_version
    )


def _between(graph: Graph, outputs: Iterable[str], border: set[str]) -> tuple[list[Node], set[str]]:
    """The nodes needed for ``outputs``, stopping at ``border``, and the border tensors met."""
    wanted: set[str] = set()
    stack = list(outputs)
    while stack:
        name = stack.pop()
        if name and name not in wanted:
            wanted.add(name)
            if name not in border and name in graph.producer:
                stack.extend(graph.producer[name].input)
    inner = wanted - border
    nodes = [node for node in graph.nodes if inner.intersection(node.output)]
    return nodes, wanted & border


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(name, name) for name in node.input]
    copy.output[:] = [names.get(name, name) for name in node.output]
    return copy


def _value(name: str) -> Any:
    """A float tensor of three unknown sizes; the decoder's result has its own rank."""
    shape = None if name == "audio" else [None, None, None]
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
