"""Where the engine computes and in what: device, dtype and TF32, each set on purpose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.errors import SettingsError

if TYPE_CHECKING:
    import torch

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """A device, a dtype, and why."""

    device: torch.device
    dtype: torch.dtype
    tf32: bool
    why: str

    def details(self) -> dict[str, Any]:
        """What ``info`` tells of it."""
        import torch

        told: dict[str, Any] = {
            "torch": torch.__version__,
            "dtype": str(self.dtype).removeprefix("torch."),
            "why": self.why,
            "tf32": self.tf32,
            "threads": torch.get_num_threads(),
        }
        if self.device.type == "cuda":
            told["gpu_name"] = torch.cuda.get_device_name(self.device)
            told |= self.memory()
        return told

    def memory(self) -> dict[str, int]:
        """The CUDA device's memory as it is now, in MiB."""
        import torch

        return {
            "gpu_allocated_mb": torch.cuda.memory_allocated(self.device) // MIB,
            "gpu_reserved_mb": torch.cuda.memory_reserved(self.device) // MIB,
        }


def choose_place(options: Qwen3Options) -> Place:
    """Decide and set it up. Raises SettingsError for a device that is not there."""
    import torch

    there = torch.cuda.is_available()
    if options.device == "cuda" and not there:
        raise SettingsError("device='cuda', but PyTorch sees no CUDA device.", param="device")
    device = torch.device("cuda" if there and options.device != "cpu" else "cpu")
    name = options.dtype
    if name == "auto":
        name = "bfloat16" if device.type == "cuda" else "float32"
    dtype: torch.dtype = getattr(torch, name)
    tf32 = device.type == "cuda" and dtype != torch.float32
    if options.tf32 is not None:
        tf32 = options.tf32 and device.type == "cuda"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    if options.threads:
        torch.set_num_threads(options.threads)
    return Place(device, dtype, tf32, _why(options, there))


def _why(options: Qwen3Options, there: bool) -> str:
    if options.device != "auto":
        return "asked for"
    return "PyTorch sees a CUDA device" if there else "PyTorch sees no CUDA device"
