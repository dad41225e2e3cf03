"""Whether frames are captured on a device, through which interface, and what is compiled."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vivavoce.engines.qwen3.options import CompileMode, Qwen3Options, compile_mode

if TYPE_CHECKING:
    from vivavoce.engines.qwen3.device import Place
    from vivavoce.runtime.graphs.api import GraphApi

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Capturing:
    """What captures, and the mode of torch.compile for what is compiled (None: nothing).

    ``compiled`` says in words how the codec is compiled, and why not as was asked for.
    """

    api: GraphApi
    mode: str | None = None
    compiled: str = "off"


def capturing_on(place: Place, options: Qwen3Options) -> Capturing | None:
    """What captures on a place; None where nothing does, or nothing should.

    On CUDA it says where compiled code is kept: that of kernels, too, which need no capture.
    """
    if place.device.type != "cuda":
        return None
    from vivavoce.runtime.graphs.compiled import cache_folder, cache_on_disk, inductor_mode

    cache_on_disk(cache_folder())
    if options.cuda_graphs is False:
        _say_uncompiled(options)
        return None
    from vivavoce.runtime.graphs.cuda import CudaGraphs

    mode, told = _suited_mode(place, options)
    return Capturing(CudaGraphs(place.device), inductor_mode(mode), told)


def _suited_mode(place: Place, options: Qwen3Options) -> tuple[CompileMode, str]:
    """The mode on this GPU, and how it came about: max-autotune takes minutes, for nothing where
    PyTorch has nothing to choose from.
    """
    from vivavoce.runtime.graphs.compiled import TEMPLATE_PROCESSORS, has_templates, processors

    mode = compile_mode(options)
    if mode != "max-autotune" or has_templates(place.device):
        return mode, mode
    why = (
        f"max-autotune has templates from {TEMPLATE_PROCESSORS} multiprocessors on, this GPU has "
        f"{processors(place.device)}"
    )
    level = logging.INFO if options.torch_compile_mode is None else logging.WARNING
    log.log(level, "The codec is compiled in the mode default: %s.", why)
    return "default", f"default ({why})"


def _say_uncompiled(options: Qwen3Options) -> None:
    """A warning where somebody asked for a mode, and no more than a word on the usual one."""
    mode = compile_mode(options)
    if mode != "off":
        log.log(
            logging.INFO if options.torch_compile_mode is None else logging.WARNING,
            "torch_compile_mode=%s has no effect: the codec is not compiled without cuda_graphs.",
            mode,
        )
