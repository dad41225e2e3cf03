"""Where a PyTorch backbone computes and in what, each set on purpose."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vivavoce.engines.neutts.backbone import PREFILL_SLICE
from vivavoce.errors import SettingsError
from vivavoce.runtime.cuda import choose_device
from vivavoce.runtime.nn.decoder import ATTENTION

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CUDA_SLICE = 512
"""On a GPU a slice of 512 tokens takes no longer than one of 128 takes on a CPU core."""

CPU_BUSY_SLICE = 32
"""On a CPU, prompt tokens a step while somebody speaks."""


@dataclass(frozen=True, slots=True)
class TorchLmOptions:
    """How to run a PyTorch backbone.

    ``device``: "auto", "cpu", "cuda" or "cuda:1". ``dtype``: "auto" is bfloat16 on a GPU and
    float32 on a CPU. ``prefill_slice``: prompt tokens a step, None for the device's own.
    ``threads``: PyTorch's on a CPU, 0 leaves them. ``graphs``: capture CUDA graphs.
    ``attention``: a name of ``nn.decoder.ATTENTION``, or "auto".
    """

    device: str = "auto"
    dtype: str = "auto"
    context_tokens: int = 2048
    capacity: int = 4
    prefill_slice: int | None = None
    threads: int = 0
    graphs: bool = True
    attention: str = "auto"

    def __post_init__(self) -> None:
        if self.dtype not in ("auto", *DTYPES):
            raise _wrong("dtype", self.dtype, ("auto", *DTYPES))
        if self.attention not in ("auto", *ATTENTION):
            raise _wrong("attention", self.attention, ("auto", *ATTENTION))
        least = {"context_tokens": 2, "capacity": 1, "threads": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise SettingsError(f"{name} must be {bound} or more.", param=name)
        if self.prefill_slice is not None and self.prefill_slice < 1:
            raise SettingsError("prefill_slice must be 1 or more.", param="prefill_slice")


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """A device and what it does best. Slices are prompt tokens a step, busy: while rows speak."""

    device: torch.device
    dtype: torch.dtype
    attention: str
    prefill_slice: int
    busy_slice: int

    @property
    def name(self) -> str:
        """ "cpu" or "cuda:0"."""
        return str(self.device)


def plan_device(options: TorchLmOptions) -> DevicePlan:
    """Raises SettingsError for a device that is not there, or cannot compute in the dtype."""
    device = choose_device(options.device, "backbone_device")
    cuda = device.type == "cuda"
    dtype = options.dtype
    if dtype == "auto":
        dtype = "bfloat16" if cuda else "float32"
    if cuda and dtype == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        if options.dtype != "auto":
            raise SettingsError(f"{device} does not compute in bfloat16.", param="dtype")
        dtype = "float16"
    attention = options.attention
    if attention == "auto":
        attention = "split" if cuda else "sdpa"
    slice_tokens = options.prefill_slice or (CUDA_SLICE if cuda else PREFILL_SLICE)
    busy = slice_tokens if cuda else min(slice_tokens, CPU_BUSY_SLICE)
    return DevicePlan(device, DTYPES[dtype], attention, slice_tokens, busy)


def _wrong(name: str, value: str, known: tuple[str, ...]) -> SettingsError:
    return SettingsError(f"{name} is {value!r}; known are {', '.join(known)}.", param=name)
