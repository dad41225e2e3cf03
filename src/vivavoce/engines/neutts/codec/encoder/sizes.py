"""The sizes of an encoder, told by the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from vivavoce.engines.neutts.codec.encoder.distilled import DistilledShape
from vivavoce.engines.neutts.codec.encoder.hubert import HubertShape
from vivavoce.engines.neutts.codec.encoder.modules import FullShape, SmallShape
from vivavoce.engines.neutts.codec.encoder.w2v_bert import ConformerShape

ShapeOf: TypeAlias = Callable[[str], tuple[int, ...]]
"""The shape of a tensor by the module's name for it; raises KeyError where there is none."""

HUBERT_HEAD = 64
SEMANTIC = "semantic_model"


def full_shape(shape_of: ShapeOf) -> FullShape:
    """Of ``neucodec``'s encoder. Raises KeyError."""
    projection = shape_of(f"{SEMANTIC}.feature_projection.projection.weight")
    layer = f"{SEMANTIC}.encoder.layers.0"
    head = shape_of(f"{layer}.self_attn.distance_embedding.weight")[1]
    return FullShape(
        first=shape_of("CodecEnc.conv_blocks.0.bias")[0],
        hidden=shape_of("CodecEnc.conv_final_block.1.bias")[0],
        quantizer=shape_of("fc_prior.bias")[0],
        semantic=ConformerShape(
            features=projection[1],
            hidden=projection[0],
            intermediate=shape_of(f"{layer}.ffn1.intermediate_dense.bias")[0],
            heads=projection[0] // head,
        ),
    )


def small_shape(shape_of: ShapeOf) -> SmallShape:
    """Of ``distill-neucodec``'s encoder. Raises KeyError."""
    projection = shape_of(f"{SEMANTIC}.feature_projection.projection.weight")
    blocks = "codec_encoder.encoder.blocks"
    widths = [shape_of(f"{blocks}.0.conv_2.bias")[0]]
    widths += [shape_of(f"{blocks}.{number}.0.bias")[0] for number in (2, 4, 6)]
    return SmallShape(
        acoustic=DistilledShape(widths=tuple(widths), hidden=shape_of(f"{blocks}.8.bias")[0]),
        joined=shape_of("fc_sq_prior.bias")[0],
        quantizer=shape_of("fc_prior.bias")[0],
        semantic_channels=shape_of("SemanticEncoder_module.residual_blocks.1.bias")[0],
        semantic=HubertShape(
            channels=projection[1],
            hidden=projection[0],
            intermediate=shape_of(
                f"{SEMANTIC}.encoder.layers.0.feed_forward.intermediate_dense.bias"
            )[0],
            heads=projection[0] // HUBERT_HEAD,
        ),
    )
