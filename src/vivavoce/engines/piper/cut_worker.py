"""Cuts one voice and exits; run as a process of its own, so that its memory is given back.

Usage: ``python -m vivavoce.engines.piper.cut_worker MODEL.onnx FOLDER``. Exit status 3 means that
the model is not a Piper voice; the reason is on stderr.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import helper, numpy_helper

from vivavoce.engines.piper.cut_voice import facts_digest
from vivavoce.engines.piper.graph import Graph, Node, cut
from vivavoce.engines.piper.trim_graph import receptive_field, trim_where_narrow
from vivavoce.errors import ModelFileError

NOT_A_VOICE = 3


def write_cut(model_path: Path, folder: Path) -> None:
    """Write encoder.onnx, flow.onnx, decoder.onnx and cut.json. Raises ModelFileError, OSError."""
    try:
        model = onnx.load(str(model_path))
    except DecodeError as error:
        raise ModelFileError(f"{model_path} is not an ONNX file: {error}") from error
    encoder, flow, decoder = cut(model)
    decoder_field = receptive_field(decoder, "latent")
    flow_field = receptive_field(flow, "prior")
    trims = {
        "encoder": (),
        "flow": trim_where_narrow(flow, "prior"),
        "decoder": trim_where_narrow(decoder, "latent"),
    }
    to_two_dimensions(decoder)
    parts = {"encoder": encoder, "flow": flow, "decoder": decoder}
    facts = {
        "hop_samples": decoder_field.factor,
        "decoder_radius_frames": decoder_field.frames,
        "flow_radius_frames": flow_field.frames,
        "inputs": {name: [each.name for each in part.graph.input] for name, part in parts.items()},
        "trims": {name: [asdict(trim) for trim in made] for name, made in trims.items()},
        "sha256": {name: _write(part, folder / f"{name}.onnx") for name, part in parts.items()},
    }
    signed = facts | {"digest": facts_digest(facts)}
    (folder / "cut.json").write_text(json.dumps(signed), encoding="utf-8")


def _write(model: Any, path: Path) -> str:
    data = model.SerializeToString()
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def main() -> int:
    """Run with the command line's two paths."""
    try:
        write_cut(Path(sys.argv[1]), Path(sys.argv[2]))
    except ModelFileError as error:
        sys.stderr.write(str(error))
        return NOT_A_VOICE
    return 0


PLAIN = {"LeakyRelu", "Relu", "Add", "Mul", "Div", "Tanh", "Identity", "Slice"}
"""Operators that do not care how many dimensions their input has (slices are of the last one)."""


def to_two_dimensions(model: Any) -> bool:
    """Turn every 1-D convolution into a 2-D one of height 1, in place.

    ONNX Runtime has blocked kernels for 2-D convolutions only; they compute the same sums a
    quarter faster. Returns False, and changes nothing, where the graph has an operator for which
    the extra dimension is not known to be harmless.
    """
    graph = Graph(model)
    inside = graph.descendants("latent")
    body = [node for node in graph.nodes if inside.intersection(node.input)]
    convolutions = [node for node in body if node.op_type in ("Conv", "ConvTranspose")]
    others = [node for node in body if node not in convolutions and "audio" not in node.output]
    if any(node.op_type not in PLAIN for node in others):
        return False
    # A speaker's bias comes from outside the body and is added inside it.
    added = {
        name
        for node in others
        for name in node.input
        if name in graph.producer and name not in inside and graph.producer[name].op_type == "Conv"
    }
    for node in convolutions:
        _widen(graph, node)
    _unsqueeze(model, body, {"latent"} | added)
    return True


def _widen(graph: Graph, node: Node) -> None:
    weight = graph.weights[node.input[1]]
    array = numpy_helper.to_array(weight)
    if array.ndim == 3:
        weight.CopyFrom(numpy_helper.from_array(array[:, :, None, :], weight.name))
    for each in node.attribute:
        if each.name in ("kernel_shape", "strides", "dilations"):
            each.ints[:] = [1, *each.ints]
        elif each.name == "pads":
            each.ints[:] = [0, each.ints[0], 0, each.ints[1]]
        elif each.name == "output_padding":
            each.ints[:] = [0, *each.ints]


def _unsqueeze(model: Any, body: list[Node], tensors: set[str]) -> None:
    """Give ``tensors`` a dimension of height 1 where the body reads them."""
    axis = "height_axis"
    model.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), axis))
    for node in body:
        node.input[:] = [f"{name}_2d" if name in tensors else name for name in node.input]
    nodes: list[Node] = []
    waiting = set(tensors)
    for node in list(model.graph.node):
        ready = {name for name in waiting if f"{name}_2d" in node.input}
        nodes += [helper.make_node("Unsqueeze", [name, axis], [f"{name}_2d"]) for name in ready]
        waiting -= ready
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


if __name__ == "__main__":
    sys.exit(main())
