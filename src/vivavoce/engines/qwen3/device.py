"""Where the engine computes and in what: device, dtype and TF32, each set on purpose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vivavoce.engines.qwen3.options import AUTO, Qwen3Options
from vivavoce.errors import SettingsError

if TYPE_CHECKING:
    import torch

    from vivavoce.engines.layers.weights import Precision

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """A device, a dtype, the precision of the weights, and why."""

    device: torch.device
    dtype: torch.dtype
    tf32: bool
    why: str
    precision: Precision
    precision_why: str

    def details(self) -> dict[str, Any]:
        """What ``info`` tells of it."""
        import torch

        told: dict[str, Any] = {
            "torch": torch.__version__,
            "dtype": str(self.dtype).removeprefix("torch."),
            "why": self.why,
            "quantize": str(self.precision),
            "quantize_why": self.precision_why,
            "tf32": self.tf32,
            "threads": torch.get_num_threads(),
        }
        if self.device.type == "cuda":
            told["gpu_name"] = torch.cuda.get_device_name(self.device)
        return told

    def memory(self) -> dict[str, int]:
        """The CUDA device's memory as it is now, in MiB; nothing on a CPU."""
        import torch

        if self.device.type != "cuda":
            return {}

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
    precision, reason = _precision(options.quantize.lower(), device, dtype)
    return Place(device, dtype, tf32, _why(options, there), precision, reason)


def budget_bytes(place: Place, options: Qwen3Options) -> int | None:
    """Memory the engine may take on a GPU: what is free, or less if so set; None on a CPU.

    To be asked before anything is loaded.
    """
    import torch

    if place.device.type != "cuda":
        return None
    free = int(torch.cuda.mem_get_info(place.device)[0])
    asked = options.gpu_memory_budget_mb * MIB
    return min(free, asked) if asked else free


def _why(options: Qwen3Options, there: bool) -> str:
    if options.device != "auto":
        return "asked for"
    return "PyTorch sees a CUDA device" if there else "PyTorch sees no CUDA device"


def _precision(asked: str, device: torch.device, dtype: torch.dtype) -> tuple[Precision, str]:
    """How weights are stored, and why. Raises SettingsError for float8 where it is not computed."""
    from vivavoce.engines.kernels.chooser import Path, chosen, takes_fp8
    from vivavoce.engines.layers.weights import Precision

    if asked != AUTO:
        if asked == Precision.FP8 and not takes_fp8(device):
            raise SettingsError(
                "quantize='fp8' needs a CUDA device of sm_89 or newer.", param="quantize"
            )
        return Precision(asked or Precision.NONE), "asked for"
    if device.type == "cpu":
        return Precision.NONE, "the default on a CPU"
    kernels = chosen(device, dtype)
    if kernels.path is Path.TRITON:
        return Precision.INT8, "the default on CUDA"
    return Precision.NONE, f"no kernels for int8 here: {kernels.why}"
