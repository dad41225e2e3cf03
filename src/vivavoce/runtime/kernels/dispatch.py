"""Which kernels a device gets, and why."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor

from vivavoce.runtime.kernels import attention, frame_ends, linear, sampler
from vivavoce.runtime.kernels.frame_ends import Turn
from vivavoce.runtime.kernels.linear import Norm
from vivavoce.runtime.kernels.trial import triton_fault
from vivavoce.runtime.nn.weights import FP8, Weight

OLDEST_CAPABILITY = (8, 0)
FP8_CAPABILITY = (8, 9)


class Path(enum.StrEnum):
    """Where the arithmetic is done."""

    TRITON = "triton"
    TORCH = "torch"


@dataclass(frozen=True, slots=True)
class Kernels:
    """One implementation of all of them; signatures and meanings are those of the plain ones.

    ``linear``, ``gated``, ``normalize``: ``kernels.linear``; ``attend``: ``kernels.attention``;
    ``sample``: ``kernels.sampler``; ``next_text``, ``settle``, ``finish`` (which sums, too):
    ``kernels.frame_ends``. ``why`` says in words why it was chosen.
    """

    path: Path
    why: str
    linear: Callable[..., Tensor]
    gated: Callable[..., Tensor]
    normalize: Callable[[Tensor, Norm], Tensor]
    attend: Callable[..., Tensor]
    sample: Callable[..., tuple[Tensor, Tensor | None]]
    next_text: Callable[..., Tensor]
    settle: Callable[..., Turn]
    finish: Callable[..., None]


def chosen(device: torch.device, dtype: torch.dtype, asked: Path | None = None) -> Kernels:
    """The kernels for weights of ``dtype`` on ``device``; ``asked`` overrides, where Triton is."""
    reason = _against_triton(device, dtype) if asked is None else None
    if asked is Path.TORCH:
        return _plain("asked for")
    if reason is not None:
        return _plain(reason)
    return _triton("asked for" if asked else f"{dtype} on {_name(device)}")


def takes_fp8(device: torch.device) -> bool:
    """Whether the device converts float8 by itself."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= FP8_CAPABILITY


def fits(weight: Weight, device: torch.device) -> bool:
    """Whether Triton's kernels can read this weight on this device."""
    return weight.data.dtype != FP8 or takes_fp8(device)


def _against_triton(device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cuda":
        return f"the device is {device.type}, not cuda"
    if find_spec("triton") is None:
        return "Triton is not installed"
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST_CAPABILITY:
        return f"sm_{capability[0]}{capability[1]} is older than sm_80"
    if dtype != torch.bfloat16:
        return f"the weights are {dtype}: the reference's own arithmetic is kept"
    return triton_fault(device)


def _name(device: torch.device) -> str:
    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)} (sm_{major}{minor})"


def _plain(why: str) -> Kernels:
    return Kernels(
        Path.TORCH,
        why,
        linear.linear,
        linear.gated,
        linear.normalize,
        attention.attend,
        sampler.sample,
        frame_ends.next_text,
        frame_ends.settle,
        frame_ends.sum_and_finish,
    )


def _triton(why: str) -> Kernels:
    from vivavoce.runtime.kernels import (
        attention_triton,
        frame_ends_triton,
        linear_triton,
        sampler_triton,
    )

    return Kernels(
        Path.TRITON,
        why,
        linear_triton.linear,
        linear_triton.gated,
        linear_triton.normalize,
        attention_triton.attend,
        sampler_triton.sample,
        frame_ends_triton.next_text,
        frame_ends_triton.settle,
        frame_ends_triton.sum_and_finish,
    )
