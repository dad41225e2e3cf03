"""PyTorch's CUDA: how much of a card's memory it has, and why there is none where it was wanted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vivavoce.runtime.nvidia import Driver, find_driver
from vivavoce.types import Gpu

if TYPE_CHECKING:
    import torch

DRIVERS = {11: 450, 12: 525, 13: 580}
"""The oldest branch of NVIDIA's driver that runs a major version of CUDA (the CUDA Toolkit's
release notes, "CUDA compatibility"). A newer CUDA needs at least the last one."""

NEWEST_DRIVER = 580
WHEELS = "https://download.pytorch.org/whl"


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
