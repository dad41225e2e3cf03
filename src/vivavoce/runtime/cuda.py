"""PyTorch's CUDA: how much of a card's memory it has, and why there is none where it was wanted."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vivavoce.errors import SettingsError
from vivavoce.runtime.nvidia import Driver, find_driver
from vivavoce.types import Gpu

if TYPE_CHECKING:
    import torch

DRIVERS = {11: 450, 12: 525, 13: 580}
"""The oldest branch of NVIDIA's driver that runs a major version of CUDA (the CUDA Toolkit's
release notes, "CUDA compatibility"). A newer CUDA needs at least the last one."""

NEWEST_DRIVER = 580

HELD_BLOCK_BYTES = 128 * 1024 * 1024
"""One block would be lost to every other stream as soon as something is in it."""
WHEELS = "https://download.pytorch.org/whl"


@dataclass(frozen=True, slots=True)
class CardMemory:
    """Bytes of a card now: all of it, what is free, and what PyTorch holds of it here."""

    total: int
    free: int
    reserved: int


class Card(Protocol):
    """The memory of a card, as far as a load plans with it. Errors are those of the device."""

    def memory(self) -> CardMemory:
        """As it is now."""
        ...

    def hold(self, size_bytes: int) -> None:
        """Have so much more at hand for this process, so that nobody else can take it."""
        ...

    def limit(self, size_bytes: int | None) -> None:
        """Take no more than that from now on; None: as much as there is."""
        ...


class CudaCard:
    """A card through PyTorch's allocator, which keeps what was allocated once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def memory(self) -> CardMemory:
        """As it is now; the first look makes CUDA's context."""
        import torch

        free, total = torch.cuda.mem_get_info(self._device)
        return CardMemory(total, free, torch.cuda.memory_reserved(self._device))

    def hold(self, size_bytes: int) -> None:
        """By allocating it in blocks and freeing them. Raises OutOfMemoryError."""
        import torch

        sizes = [HELD_BLOCK_BYTES] * (size_bytes // HELD_BLOCK_BYTES)
        sizes.append(size_bytes % HELD_BLOCK_BYTES)
        held = [torch.empty(size, dtype=torch.uint8, device=self._device) for size in sizes]
        del held

    def limit(self, size_bytes: int | None) -> None:
        """For PyTorch's allocator; CUDA's context and its libraries' code are not counted."""
        import torch

        total = torch.cuda.mem_get_info(self._device)[1]
        share = 1.0 if size_bytes is None else min(1.0, size_bytes / total)
        torch.cuda.set_per_process_memory_fraction(share, self._device)


def torch_gpu(device: torch.device) -> Gpu | None:
    """A CUDA device with its memory as it is now, without waiting for its work; None of a CPU."""
    import torch

    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return Gpu(
        torch.cuda.get_device_name(device),
        free,
        total,
        torch.cuda.memory_allocated(device),
        torch.cuda.memory_reserved(device),
    )


def empty_cache(device: torch.device) -> None:
    """Give back what PyTorch keeps of a card's memory without using it; nothing on a CPU.

    From any thread.
    """
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def choose_device(asked: str, param: str) -> torch.device:
    """The device for "auto", "cpu", "cuda" or "cuda:1". Raises SettingsError, for ``param``."""
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto":
        return torch.device("cuda", 0) if there else torch.device("cpu")
    kind, _, number = asked.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise SettingsError(
            f"{param} is {asked!r}; known are auto, cpu, cuda, cuda:N.", param=param
        )
    if kind == "cpu":
        return torch.device("cpu")
    index = int(number or 0)
    if index >= there:
        sees = f"sees {there} of them" if there else f"sees no CUDA device: {why_no_cuda()}"
        raise SettingsError(f"{param}={asked!r}, but PyTorch {sees}.", param=param)
    return torch.device("cuda", index)


def why_no_cuda() -> str:
    """Why PyTorch sees no CUDA device, and what to install: words to stand after a colon."""
    import torch

    return explain(find_driver(), torch.__version__, torch.version.cuda)


def explain(driver: Driver | None, torch_version: str, built_for: str | None) -> str:
    """``built_for`` is the CUDA version of a PyTorch, None where it is built without."""
    if built_for is None:
        fitting = "cu130" if driver is None or driver.branch >= NEWEST_DRIVER else "cu126"
        return (
            f"this PyTorch ({torch_version}) is built without CUDA; "
            f"pip install torch --index-url {WHEELS}/{fitting} brings one that has it"
        )
    major = int(built_for.partition(".")[0])
    needed = DRIVERS.get(major, NEWEST_DRIVER)
    if driver is None:
        return (
            f"no NVIDIA driver was found; CUDA {built_for} of this PyTorch needs version {needed} "
            "or newer. A container must be given the GPU, too (docker run --gpus all, with "
            "NVIDIA's container toolkit on the host)"
        )
    if driver.branch < needed:
        return (
            f"the NVIDIA driver {driver.version} is too old for CUDA {built_for} of this PyTorch: "
            f"install version {needed} or newer, or a PyTorch for an older CUDA "
            f"(pip install torch --index-url {WHEELS}/cu126)"
        )
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return f"CUDA_VISIBLE_DEVICES={hidden!r} may hide it (the driver is {driver.version})"
    if not driver.gpus:
        return f"the NVIDIA driver {driver.version} shows no GPU; nvidia-smi may say why"
    return (
        f"CUDA {built_for} does not start on {driver.gpus[0].name} with the driver "
        f"{driver.version}; nvidia-smi may say why"
    )
