"""Whether frames are captured on a device, through which interface, and what is compiled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vivavoce.engines.capture.api import GraphApi
    from vivavoce.engines.qwen3.device import Place
    from vivavoce.engines.qwen3.options import Qwen3Options


@dataclass(frozen=True, slots=True)
class Capturing:
    """What captures, and the mode of torch.compile for what is compiled (None: nothing)."""

    api: GraphApi
    mode: str | None = None


def capturing_on(place: Place, options: Qwen3Options) -> Capturing | None:
    """What captures on a place; None where nothing does, or nothing should."""
    if place.device.type != "cuda" or options.cuda_graphs is False:
        return None
    from vivavoce.engines.capture.compiled import cache_folder, cache_on_disk, inductor_mode
    from vivavoce.engines.capture.cuda import CudaGraphs

    mode = inductor_mode(options.torch_compile_mode, captured=True)
    if mode is not None:
        cache_on_disk(cache_folder())
    return Capturing(CudaGraphs(place.device), mode)
