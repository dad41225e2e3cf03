"""Settings for GPUs and for whole checkpoints that a GGUF, or a CPU, has no use for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vivavoce.engines.neutts.options import NeuTTSOptions

if TYPE_CHECKING:
    from vivavoce.engines.neutts.backbone import Backbone

log = logging.getLogger(__name__)


def warn_of_unused(options: NeuTTSOptions, backbone: Backbone) -> None:
    """Say in the log which settings have no effect on a loaded backbone, and why."""
    for words in unused(options, backbone):
        log.warning("%s", words)


def unused(options: NeuTTSOptions, backbone: Backbone) -> list[str]:
    """A sentence for each."""
    gguf = getattr(backbone, "details", {}).get("runtime") == "llama.cpp"
    found = []
    if gguf and options.quantize == "int8":
        found.append(
            "quantize=int8 has no effect: the weights of a GGUF are as its file has them; other "
            "files have others (neuphonic's q4 and q8 repositories)."
        )
    if options.cuda_graphs and (gguf or backbone.device == "cpu"):
        why = "llama.cpp has its own" if gguf else "the backbone runs on the CPU"
        found.append(f"cuda_graphs has no effect: {why}.")
    return found
