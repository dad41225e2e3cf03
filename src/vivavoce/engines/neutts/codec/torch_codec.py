"""The decoder in PyTorch: on a CPU as it stands, on CUDA as captured graphs of fixed lengths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vivavoce.engines.neutts.codec.codec import Codes
from vivavoce.engines.neutts.codec.decoder_module import NeuCodecDecoder
from vivavoce.engines.neutts.codec.decoder_weights import DecoderWeights, open_decoder
from vivavoce.engines.neutts.codec.fsq import checked_codes
from vivavoce.engines.neutts.codec.network import HEAD
from vivavoce.errors import EngineError, SettingsError
from vivavoce.runtime.cuda import torch_gpu, why_no_cuda
from vivavoce.types import Gpu, Samples, WeightsFormat

Run: TypeAlias = Callable[[Tensor], Tensor]
TorchPrecision: TypeAlias = Literal["float32", "bfloat16"]

DEFAULT_WINDOWS = (38, 45, 55, 80)
"""A look-back of 25 codes, pieces of 8, 15, 25 and 50, and 5 codes of look-forward."""
WARM_UPS = 2


class TorchCodec:
    """One decoder; ``windows`` are the lengths that were captured."""

    def __init__(self, module: NeuCodecDecoder, windows: tuple[int, ...]) -> None:
        self._module = module
        self._device = module.fc_post_a.weight.device
        self._runs: dict[int, Run] = {}
        if self._device.type == "cuda":
            self._runs = {size: _captured(module, size, self._device) for size in sorted(windows)}

    @property
    def device(self) -> str:
        """Where it runs: "cpu" or "cuda:0"."""
        return str(self._device)

    @property
    def windows(self) -> tuple[int, ...]:
        """Captured lengths, ascending; none on a CPU."""
        return tuple(self._runs)

    @property
    def gpu(self) -> Gpu | None:
        """The CUDA device, with its memory as it is now."""
        return torch_gpu(self._device)

    @property
    def weights(self) -> WeightsFormat:
        """How they are stored, but for the head, which is in float32."""
        where = "CUDA" if self._device.type == "cuda" else "a CPU"
        return WeightsFormat(self.details["precision"], f"for PyTorch on {where}")

    @property
    def details(self) -> dict[str, str]:
        """What it computes with."""
        dtype = self._module.fc_post_a.weight.dtype
        return {"runtime": "torch", "precision": str(dtype).removeprefix("torch.")}

    def decode(self, codes: Codes) -> Samples:
        """(T,) to (T * 480,) float32. Raises InputError for wrong codes, EngineError."""
        checked = torch.from_numpy(checked_codes(codes).astype(np.int64))[None]
        run = self._runs.get(checked.shape[1], self._module)
        try:
            with torch.inference_mode():
                sound: Samples = run(checked.to(self._device))[0].cpu().numpy()
        except RuntimeError as error:
            raise EngineError(f"The codec failed on {len(codes)} codes.") from error
        return sound

    def close(self) -> None:
        """Give back the memory."""
        self._runs.clear()
        self._module.to("meta")
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def open_torch_codec(
    path: Path | str,
    *,
    device: Literal["cpu", "cuda"] = "cpu",
    precision: TorchPrecision | None = None,
    windows: tuple[int, ...] = DEFAULT_WINDOWS,
    threads: int = 0,
) -> TorchCodec:
    """Load the decoder of a checkpoint (file or folder).

    ``precision`` is by default float32 on a CPU and bfloat16 on CUDA, where the head and the ISTFT
    stay in float32. ``windows`` are captured on CUDA. ``threads`` (0: as it is) is set for all of
    torch in this process. Raises ModelFileError that names what does not fit, SettingsError for a
    device that is not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            f"codec_device='cuda', but PyTorch sees no CUDA device: {why_no_cuda()}.",
            param="codec_device",
        )
    if threads:
        torch.set_num_threads(threads)
    at = torch.device("cuda", torch.cuda.current_device()) if device == "cuda" else device
    name = precision or ("bfloat16" if device == "cuda" else "float32")
    dtype: torch.dtype = getattr(torch, name)
    return TorchCodec(load_decoder(open_decoder(path), torch.device(at), dtype), windows)


def load_decoder(
    weights: DecoderWeights, device: torch.device, dtype: torch.dtype
) -> NeuCodecDecoder:
    """The module with its weights, tensor by tensor. Raises ModelFileError for damaged values."""
    with torch.device("meta"):
        module = NeuCodecDecoder(weights.shape)
    for name in weights.places:
        values = torch.from_numpy(weights.read(name))
        kind = torch.float32 if name.startswith(HEAD) else dtype
        at, _, last = name.rpartition(".")
        parameter = torch.nn.Parameter(values.to(device, kind), requires_grad=False)
        setattr(module.get_submodule(at), last, parameter)
    return module.to(device).eval()


def _captured(module: NeuCodecDecoder, size: int, device: torch.device) -> Run:
    """The decoder as one CUDA graph for ``size`` codes."""
    given = torch.zeros(1, size, dtype=torch.int64, device=device)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            module(given)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            made = module(given)

    def run(codes: Tensor) -> Tensor:
        given.copy_(codes)
        graph.replay()
        return made

    return run
