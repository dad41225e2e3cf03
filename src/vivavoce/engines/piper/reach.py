"""How far a convolutional graph looks, and how much it upsamples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vivavoce.engines.piper.graph_cut import Graph, Node, attribute


@dataclass(frozen=True, slots=True)
class Reach:
    """``radius`` is how many input frames each side of a tensor's steps matter to them.

    ``factor`` is how many of its steps come from one input frame.
    """

    radius: float
    factor: int

    @property
    def frames(self) -> int:
        """The radius in whole frames."""
        return math.ceil(self.radius)


def reaches(model: Any, start: str) -> Mapping[str, Reach]:
    """The reach of every tensor that is computed from ``start``.

    A convolution of kernel k and dilation d looks (k-1)·d/2 to each side, a transposed one of
    stride s at most (k-1)/s; both in units of its own input, which is ``factor`` times finer than
    the graph's.
    """
    found = {start: Reach(0.0, 1)}
    for node in Graph(model).nodes:
        known = [found[name] for name in node.input if name in found]
        if known:
            far = max(each.radius for each in known)
            fine = max(each.factor for each in known)
            grown, step = _step(node, fine)
            found |= dict.fromkeys(node.output, Reach(far + grown, fine * step))
    return found


def reach(model: Any, start: str) -> Reach:
    """The reach of the graph's first output."""
    return reaches(model, start)[model.graph.output[0].name]


def _step(node: Node, fine: int) -> tuple[float, int]:
    """What a node adds to the radius (in input frames) and multiplies the rate by."""
    if node.op_type not in ("Conv", "ConvTranspose"):
        return 0.0, 1
    kernel = attribute(node, "kernel_shape")[-1]
    if node.op_type == "ConvTranspose":
        stride = attribute(node, "strides")[-1]
        return (kernel - 1) / stride / fine, stride
    return (kernel - 1) * (attribute(node, "dilations") or [1])[-1] / 2 / fine, 1
