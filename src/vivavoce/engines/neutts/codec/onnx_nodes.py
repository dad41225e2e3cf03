"""A graph under construction: nodes one after another, and where its large arrays go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"
Name: TypeAlias = str
Store: TypeAlias = Callable[[str, Array], TensorProto]
"""Makes an initializer of an array: within the graph, or in a file beside it."""

OPSET = 17
IR_VERSION = 8
"""What ONNX Runtime 1.19 and everything newer reads."""


def inside(name: str, array: Array) -> TensorProto:
    """An initializer that holds its values itself."""
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


@dataclass
class GraphBuilder:
    """Grows a graph; every method returns the name of what it made."""

    store: Store
    nodes: list[Any] = field(default_factory=list)
    initializers: dict[str, Any] = field(default_factory=dict)

    def op(self, kind: str, *inputs: Name, **attributes: Any) -> Name:
        """A node with one output."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: Name, **attributes: Any) -> list[Name]:
        """A node with several outputs."""
        at = len(self.nodes)
        made = [f"{kind}_{at}_{number}" if number else f"{kind}_{at}" for number in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, made, name=f"node_{at}", **attributes))
        return made

    def weight(self, name: Name, array: Array) -> Name:
        """A large array, stored where the graph keeps its weights."""
        self.initializers[name] = self.store(name, array)
        return name

    def ints(self, *values: int) -> Name:
        """A small int64 array (n,)."""
        name = "ints_" + "_".join(map(str, values)).replace("-", "m")
        if name not in self.initializers:
            self.initializers[name] = inside(name, np.array(values, np.int64))
        return name

    def scalar(self, value: float) -> Name:
        """A float32 scalar."""
        name = f"scalar_{value!r}"
        if name not in self.initializers:
            self.initializers[name] = inside(name, np.array(value, np.float32))
        return name

    def reshape(self, x: Name, *shape: int) -> Name:
        """Reshaped; 0 keeps a dimension, -1 is what is left."""
        return self.op("Reshape", x, self.ints(*shape))

    def slice(self, x: Name, axis: int, start: int, stop: int) -> Name:
        """``[start:stop]`` along one axis; negative from the end."""
        return self.op("Slice", x, self.ints(start), self.ints(stop), self.ints(axis))

    def model(self, inputs: list[Any], outputs: list[Any], producer: str) -> Any:
        """The whole as an ONNX model."""
        graph = helper.make_graph(
            self.nodes, "neucodec_decoder", inputs, outputs, list(self.initializers.values())
        )
        opset = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=opset, producer_name=producer)
        made.ir_version = IR_VERSION
        return made
