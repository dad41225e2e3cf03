"""How far a convolutional graph looks, and the cuts at which context is let go by that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from vivavoce.engines.piper.cut_voice import Trim
from vivavoce.engines.piper.graph import Graph, Node, attribute


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """``radius`` is how many input frames each side of a tensor's steps matter to them.

    ``factor`` is how many of its steps come from one input frame.
    """

    radius: float
    factor: int

    @property
    def frames(self) -> int:
        """The radius in whole frames."""
        return math.ceil(self.radius)


def receptive_fields(model: Any, start: str) -> Mapping[str, ReceptiveField]:
    """The receptive field of every tensor that is computed from ``start``.

    A convolution of kernel k and dilation d looks (k-1)·d/2 to each side, a transposed one of
    stride s at most (k-1)/s; both in units of its own input, which is ``factor`` times finer than
    the graph's.
    """
    found = {start: ReceptiveField(0.0, 1)}
    for node in Graph(model).nodes:
        known = [found[name] for name in node.input if name in found]
        if known:
            far = max(each.radius for each in known)
            fine = max(each.factor for each in known)
            grown, step = _step(node, fine)
            found |= dict.fromkeys(node.output, ReceptiveField(far + grown, fine * step))
    return found


def receptive_field(model: Any, start: str) -> ReceptiveField:
    """The receptive field of the graph's first output."""
    return receptive_fields(model, start)[model.graph.output[0].name]


def _step(node: Node, fine: int) -> tuple[float, int]:
    """What a node adds to the radius (in input frames) and multiplies the rate by."""
    if node.op_type not in ("Conv", "ConvTranspose"):
        return 0.0, 1
    kernel = attribute(node, "kernel_shape")[-1]
    if node.op_type == "ConvTranspose":
        stride = attribute(node, "strides")[-1]
        return (kernel - 1) / stride / fine, stride
    return (kernel - 1) * (attribute(node, "dilations") or [1])[-1] / 2 / fine, 1


WORTH_FRAMES = 0.5
"""A cut is made where it takes at least this much off each side; each copies its tensor."""
AXIS = "trim_axis"


def trim_where_narrow(model: Any, start: str) -> tuple[Trim, ...]:
    """Add cuts to a graph, in place, and say what they are.

    Each reads two more inputs of shape (1,), ``trim_start_N`` and ``trim_end_N``: the first step
    that stays and the one where it stops (see ``trim_feed``).
    """
    known = receptive_fields(model, start)
    whole = known[model.graph.output[0].name].radius
    made: list[Trim] = []
    left_frames = whole
    for tensor in list(_narrow(model, start)):
        rest, factor = whole - known[tensor].radius, known[tensor].factor
        need = math.ceil(rest * factor - 1e-9)
        if left_frames - need / factor >= WORTH_FRAMES:
            _insert(model, tensor, len(made))
            made.append(Trim(factor, need))
            left_frames = need / factor
    if made:
        axis = numpy_helper.from_array(np.array([-1], np.int64), AXIS)
        model.graph.initializer.append(axis)
    return tuple(made)


def _narrow(model: Any, start: str) -> Iterator[str]:
    """The tensors between ``start`` and the output through which everything goes, in order."""
    inside = Graph(model).descendants(start)
    body = [node for node in model.graph.node if inside.intersection(node.input)]
    last_use = {name: at for at, node in enumerate(body) for name in node.input}
    live = {start}
    for at, node in enumerate(body[:-1]):
        live |= {name for name in node.output if name in last_use}
        live = {name for name in live if last_use[name] > at}
        if len(live) == 1:
            yield next(iter(live))


def _insert(model: Any, tensor: str, number: int) -> None:
    """Cut a tensor for all that read it."""
    names = [f"trim_start_{number}", f"trim_end_{number}"]
    cut = f"{tensor}_trimmed"
    for node in model.graph.node:
        node.input[:] = [cut if name == tensor else name for name in node.input]
    nodes = list(model.graph.node)
    at = next(at for at, node in enumerate(nodes) if tensor in node.output)
    nodes.insert(at + 1, helper.make_node("Slice", [tensor, *names, AXIS], [cut]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for name in names:
        given = helper.make_tensor_value_info(name, TensorProto.INT64, [1])
        model.graph.input.append(given)
