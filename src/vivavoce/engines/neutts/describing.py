"""What the engine says of itself: abilities, and where each part really runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vivavoce.engines.base import Capabilities, TextLiking
from vivavoce.engines.neutts.cloning import can_clone
from vivavoce.engines.neutts.codec.stream import CODES_PER_S
from vivavoce.engines.neutts.family import Family
from vivavoce.engines.neutts.options import NeuTTSOptions
from vivavoce.types import Gpu, WeightsFormat

if TYPE_CHECKING:
    from vivavoce.engines.neutts.backbone import Backbone
    from vivavoce.engines.neutts.codec.stream import Codec

GRAPHS = ("graphs_captured", "graphs_failed", "graphs_replayed", "graphs_eager")
"""What a part that captures counts; the engine tells the sum."""

LIKING = TextLiking(group_s=20.0)
"""The reference is read again with every prompt. A group that does not fit beside a long one is
halved again (``fitting.py``)."""


def capabilities(options: NeuTTSOptions, family: Family) -> Capabilities:
    """What a model of ``family`` can do here."""
    return Capabilities(
        cloning=can_clone(options, family),
        seed=True,
        sampling=True,
        phonemes=family.layout == "phonemes",
    )


def gpu(backbone: Backbone | None, codec: Codec | None) -> Gpu | None:
    """The card of the part that has one, the backbone's first."""
    for part in (backbone, codec):
        if part is not None and part.device != "cpu":
            found = getattr(part, "gpu", None)
            if isinstance(found, Gpu):
                return found
    return None


def weights(backbone: Backbone | None, codec: Codec | None) -> Mapping[str, WeightsFormat]:
    """How those of both parts are stored; empty until they are loaded."""
    parts = {"backbone": backbone, "codec": codec}
    told = {name: getattr(part, "weights", None) for name, part in parts.items()}
    return {name: each for name, each in told.items() if isinstance(each, WeightsFormat)}


def details(
    options: NeuTTSOptions,
    family: Family,
    backbone: Backbone | None,
    codec: Codec | None,
    chunks: Sequence[int],
) -> dict[str, Any]:
    """For ``EngineInfo.details``; without parts that it is not loaded.

    ``devices`` names where backbone, codec and encoder run; the encoder is loaded for each clone
    alone. ``chunks`` are the sizes of pieces, in codes.
    """
    told: dict[str, Any] = {
        "loaded": backbone is not None,
        "family": family.name,
        "frame_rate_hz": CODES_PER_S,
    }
    if backbone is None or codec is None:
        return told
    devices = {"backbone": backbone.device, "codec": codec.device}
    if can_clone(options, family):
        devices["encoder"] = options.encoder_device
    own = {"backbone": _told_by(backbone), "codec": _told_by(codec)}
    graphs: Counter[str] = Counter()
    for each in own.values():
        graphs.update({name: value for name, value in each.items() if name in GRAPHS})
    return told | {
        "devices": devices,
        **{
            f"{part}_{name}": value
            for part, each in own.items()
            for name, value in each.items()
            if name not in GRAPHS
        },
        **graphs,
        "watermark": options.watermark,
        "rows": backbone.capacity,
        "context": backbone.context_tokens,
        "chunks": list(chunks),
        "why": "that is what was asked for",
    }


def _told_by(part: object) -> Mapping[str, Any]:
    """What a part tells of itself beside its device."""
    told = getattr(part, "details", {})
    return dict(told) if isinstance(told, Mapping) else {}
