"""Where the engine computes and in what: device, dtype and TF32, each set on purpose."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vivavoce.engines.qwen3.options import AUTO, Qwen3Options, for_a_gpu
from vivavoce.errors import SettingsError, SetupError
from vivavoce.runtime.cuda import Card, CudaCard, why_no_cuda
from vivavoce.runtime.torch_threads import half_the_cores
from vivavoce.types import WeightsFormat

if TYPE_CHECKING:
    import torch

    from vivavoce.runtime.kernels.dispatch import Kernels
    from vivavoce.runtime.nn.weights import Precision

log = logging.getLogger(__name__)

OLDEST_TORCH = (2, 8)


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

        return {
            "torch": torch.__version__,
            "dtype": str(self.dtype).removeprefix("torch."),
            "why": self.why,
            "quantize": str(self.precision),
            "quantize_why": self.precision_why,
            "tf32": self.tf32,
            "threads": torch.get_num_threads(),
        }

    def weights(self) -> dict[str, WeightsFormat]:
        """How the weights of the talker (with the code predictor) and of the codec are stored."""
        dtype = str(self.dtype).removeprefix("torch.")
        quantized = str(self.precision) != "none"
        talker = WeightsFormat(str(self.precision) if quantized else dtype, self.precision_why)
        return {"talker": talker, "codec": WeightsFormat("float32", "the codec is never reduced")}


def choose_place(options: Qwen3Options) -> Place:
    """Decide and set it up.

    Raises SettingsError for a device that is not there, SetupError for a PyTorch that is too old.
    """
    import torch

    _require_torch(torch.__version__)
    there = torch.cuda.is_available()
    if not there:
        _settle_for_a_cpu(options)
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
    if options.threads or device.type == "cpu":
        torch.set_num_threads(options.threads or half_the_cores())
    precision, reason = _precision(options.quantize.lower(), device, dtype)
    return Place(device, dtype, tf32, _why(options, there), precision, reason)


def card_on(place: Place) -> Card | None:
    """The GPU's memory; None on a CPU, whose memory is not counted."""
    return CudaCard(place.device) if place.device.type == "cuda" else None


def _require_torch(version: str) -> None:
    """Raise SetupError for a PyTorch that lacks what is used here."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise SetupError(
            f"PyTorch {version} is too old for Qwen3-TTS, which needs {oldest} or newer: "
            f"pip install 'torch>={oldest}'."
        )


def _settle_for_a_cpu(options: Qwen3Options) -> None:
    """Where there is no CUDA device: refuse what asks for one, and name what has no effect.

    Raises SettingsError.
    """
    if options.device == "cuda":
        raise SettingsError(
            f"device='cuda', but PyTorch sees no CUDA device: {why_no_cuda()}.", param="device"
        )
    if options.gpu_memory_budget_mb:
        raise SettingsError(
            f"gpu_memory_budget_mb={options.gpu_memory_budget_mb} asks for a GPU, but PyTorch sees "
            f"no CUDA device: {why_no_cuda()}. To run on the CPU, leave the budget out and set "
            "device='cpu'.",
            param="gpu_memory_budget_mb",
        )
    idle = ", ".join(for_a_gpu(options))
    if idle:
        log.warning("Without effect on a CPU: %s.", idle)
    if options.device == AUTO and (idle or options.quantize.lower() == "int8"):
        log.warning(
            "Qwen3-TTS runs on the CPU, because PyTorch sees no CUDA device: %s. Set device=cpu "
            "where that is meant, or device=cuda to have the start refused instead.",
            why_no_cuda(),
        )


def _why(options: Qwen3Options, there: bool) -> str:
    if options.device != "auto":
        return "asked for"
    return "PyTorch sees a CUDA device" if there else "PyTorch sees no CUDA device"


def _precision(asked: str, device: torch.device, dtype: torch.dtype) -> tuple[Precision, str]:
    """How weights are stored, and why. Raises SettingsError for float8 where it is not computed."""
    from vivavoce.runtime.kernels.dispatch import Path, chosen, takes_fp8
    from vivavoce.runtime.nn.weights import Precision

    if asked != AUTO:
        if asked == Precision.FP8 and not takes_fp8(device):
            raise SettingsError(
                "quantize='fp8' needs a CUDA device of sm_89 or newer.", param="quantize"
            )
        precision = Precision(asked or Precision.NONE)
        if precision is not Precision.NONE and device.type == "cuda":
            _say_how_slow(precision, chosen(device, dtype))
        return precision, "asked for"
    if device.type == "cpu":
        return Precision.NONE, "the default on a CPU"
    kernels = chosen(device, dtype)
    if kernels.path is Path.TRITON:
        return Precision.INT8, "the default on CUDA"
    return Precision.NONE, f"no kernels for int8 here: {kernels.why}"


def _say_how_slow(precision: Precision, kernels: Kernels) -> None:
    """Small weights without kernels for them save memory and cost time."""
    from vivavoce.runtime.kernels.dispatch import Path

    if kernels.path is not Path.TRITON:
        log.warning(
            "quantize=%s was asked for, but there are no kernels for it here: %s. It is slower "
            "than quantize=none, which needs more memory.",
            precision,
            kernels.why,
        )
