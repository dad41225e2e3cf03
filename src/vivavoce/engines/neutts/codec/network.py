"""The decoder's network by the names of its tensors, as the published checkpoints call them.

``generator.quantizer.project_out`` (8 to 2048), ``fc_post_a`` (2048 to 1024), a convolution of 7,
two residual blocks of convolutions, 12 transformer blocks without positions, two residual blocks, a
layer norm, and ``generator.head.out`` to 961 log magnitudes and 961 phases. (The published code
rotates queries and keys by their head, not by their time, which alters no product: left out.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from vivavoce.engines.neutts.codec.fsq import DIGITS
from vivavoce.engines.neutts.codec.istft import BINS

Shape: TypeAlias = tuple[int, ...]

HEAD_DIM = 64
GROUPS = 32
EPSILON = 1e-6
"""Of every norm in the network."""
EMBED_KERNEL = 7
BLOCK_KERNEL = 3
RESIDUAL_BLOCKS = 2

BACKBONE = "generator.backbone"
QUANTIZER = "generator.quantizer.project_out"
POST = "fc_post_a"
HEAD = "generator.head.out"


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The sizes that may differ; these are the published ones."""

    hidden: int = 1024
    quantizer: int = 2048
    mlp: int = 4096
    depth: int = 12

    @property
    def heads(self) -> int:
        """Attention heads of 64."""
        return self.hidden // HEAD_DIM


TINY = DecoderShape(hidden=128, quantizer=32, mlp=256, depth=2)
"""For tests: the same network in 4 MB."""


def tensor_shapes(shape: DecoderShape) -> dict[str, Shape]:
    """Every tensor the decoder needs, by its published name."""
    hidden = shape.hidden
    shapes = _linear(QUANTIZER, DIGITS, shape.quantizer) | _linear(POST, shape.quantizer, hidden)
    shapes |= _convolution(f"{BACKBONE}.embed", hidden, EMBED_KERNEL)
    for net in ("prior_net", "post_net"):
        for block in range(RESIDUAL_BLOCKS):
            at = f"{BACKBONE}.{net}.{block}"
            for number in (1, 2):
                shapes |= _norm(f"{at}.norm{number}", hidden)
                shapes |= _convolution(f"{at}.conv{number}", hidden, BLOCK_KERNEL)
    for layer in range(shape.depth):
        shapes |= _transformer(f"{BACKBONE}.transformers.{layer}", shape)
    return shapes | _norm(f"{BACKBONE}.final_layer_norm", hidden) | _linear(HEAD, hidden, 2 * BINS)


def read_shape(shapes: Mapping[str, Shape]) -> DecoderShape:
    """The sizes of the decoder among the tensors of a file. Raises KeyError or IndexError where
    the tensors that tell them are not there."""
    quantizer, hidden = shapes[f"{POST}.weight"][1], shapes[f"{POST}.weight"][0]
    mlp = shapes[f"{BACKBONE}.transformers.0.mlp.fc1.weight"][0]
    start, end = f"{BACKBONE}.transformers.", ".att_norm.weight"
    depth = sum(name.startswith(start) and name.endswith(end) for name in shapes)
    return DecoderShape(hidden, quantizer, mlp, depth)


def _linear(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _convolution(name: str, channels: int, kernel: int) -> dict[str, Shape]:
    return {f"{name}.weight": (channels, channels, kernel), f"{name}.bias": (channels,)}


def _norm(name: str, size: int) -> dict[str, Shape]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _transformer(at: str, shape: DecoderShape) -> dict[str, Shape]:
    hidden = shape.hidden
    return {
        f"{at}.att_norm.weight": (hidden,),
        f"{at}.ffn_norm.weight": (hidden,),
        f"{at}.att.c_attn.weight": (3 * hidden, hidden),
        f"{at}.att.c_proj.weight": (hidden, hidden),
        f"{at}.mlp.fc1.weight": (shape.mlp, hidden),
        f"{at}.mlp.fc2.weight": (hidden, shape.mlp),
    }
