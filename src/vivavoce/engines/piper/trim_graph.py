"""Cuts in a graph at which context is let go (see ``trimming``)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from vivavoce.engines.piper.graph_cut import Graph
from vivavoce.engines.piper.reach import reaches
from vivavoce.engines.piper.trimming import Trim

WORTH_FRAMES = 0.5
"""A cut is made where it takes at least this much off each side; each copies its tensor."""
AXIS = "trim_axis"


def trim_where_narrow(model: Any, start: str) -> tuple[Trim, ...]:
    """Add cuts to a graph, in place, and say what they are.

    Each reads two more inputs of shape (1,), ``trim_start_N`` and ``trim_end_N``: the first step
    that stays and the one where it stops (see ``trim_feed``).
    """
    known = reaches(model, start)
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
