"""NeuCodec's decoder in PyTorch: as it stands on a CPU, as graphs of fixed lengths on CUDA.

Module names are those of the published checkpoints.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.engines.neutts.codec.network import (
    BASIS,
    BINS,
    BLOCK_KERNEL,
    CUT,
    DIGITS,
    EMBED_KERNEL,
    EPSILON,
    FRAME,
    GROUPS,
    HEAD,
    LEVELS,
    MAX_MAGNITUDE,
    RESIDUAL_BLOCKS,
    DecoderShape,
    DecoderWeights,
    checked_codes,
    hann,
    open_decoder,
)
from vivavoce.engines.neutts.codec.stream import HOP, Codes
from vivavoce.errors import EngineError, SettingsError
from vivavoce.runtime.cuda import empty_cache, torch_gpu, why_no_cuda
from vivavoce.runtime.graphs.api import GraphApi, StaticTensors
from vivavoce.runtime.graphs.captures import Captures, Job
from vivavoce.runtime.graphs.cuda import CudaGraphs
from vivavoce.runtime.nn.norm import RMSNorm
from vivavoce.types import Gpu, Samples, WeightsFormat


class ResidualBlock(nn.Module):
    """Two rounds of group norm, swish and convolution, added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels, EPSILON)
        self.conv1 = nn.Conv1d(channels, channels, BLOCK_KERNEL, padding="same")
        self.norm2 = nn.GroupNorm(GROUPS, channels, EPSILON)
        self.conv2 = nn.Conv1d(channels, channels, BLOCK_KERNEL, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, T] to the same."""
        y = self.conv1(functional.silu(self.norm1(x)))
        out: Tensor = x + self.conv2(functional.silu(self.norm2(y)))
        return out


class Attention(nn.Module):
    """Every code sees every code."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(hidden, 3 * hidden, bias=False)
        self.c_proj = nn.Linear(hidden, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        parts = self.c_attn(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.c_proj(seen.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """Two layers with a swish between them."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden, inner, bias=False)
        self.fc2 = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        out: Tensor = self.fc2(functional.silu(self.fc1(x)))
        return out


class TransformerBlock(nn.Module):
    """Attention and MLP, each on the normalized input and added to it."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.att_norm = RMSNorm(shape.hidden, EPSILON)
        self.ffn_norm = RMSNorm(shape.hidden, EPSILON)
        self.att = Attention(shape.hidden, shape.heads)
        self.mlp = Mlp(shape.hidden, shape.mlp)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        x = x + self.att(self.att_norm(x))
        out: Tensor = x + self.mlp(self.ffn_norm(x))
        return out


class Backbone(nn.Module):
    """Convolutions, transformer, convolutions."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        hidden = shape.hidden
        self.embed = nn.Conv1d(hidden, hidden, EMBED_KERNEL, padding="same")
        self.prior_net = nn.Sequential(*(ResidualBlock(hidden) for _ in range(RESIDUAL_BLOCKS)))
        self.transformers = nn.Sequential(*(TransformerBlock(shape) for _ in range(shape.depth)))
        self.post_net = nn.Sequential(*(ResidualBlock(hidden) for _ in range(RESIDUAL_BLOCKS)))
        self.final_layer_norm = nn.LayerNorm(hidden, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to the same."""
        x = self.prior_net(self.embed(x.transpose(1, 2)))
        x = self.post_net(self.transformers(x.transpose(1, 2)).transpose(1, 2))
        out: Tensor = self.final_layer_norm(x.transpose(1, 2))
        return out


class IstftHead(nn.Module):
    """Log magnitudes and phases, and the sound they are of; always float32."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.out = nn.Linear(hidden, 2 * BINS)
        self.register_buffer("window", torch.from_numpy(hann()).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, hidden] to [B, 480 * T]."""
        magnitude, phase = self.out(x.float()).chunk(2, -1)
        spectrum = torch.polar(magnitude.exp().clamp(max=MAX_MAGNITUDE), phase)
        window: Tensor = self.get_buffer("window")
        frames = torch.fft.irfft(spectrum, FRAME) * window
        energy = overlapped(window.square().expand(1, x.shape[1], -1))
        return (overlapped(frames) / energy.clamp(min=1e-11))[:, CUT:-CUT]


def overlapped(frames: Tensor) -> Tensor:
    """Frames [B, T, 1920], each a hop after the last, summed: [B, 480 * (T + 3)]."""
    rows, count, size = frames.shape
    total = frames.new_zeros(rows, count + size // HOP - 1, HOP)
    for number, part in enumerate(torch.unflatten(frames, -1, (-1, HOP)).unbind(2)):
        total[:, number : number + count] += part
    return total.flatten(1)


class Quantizer(nn.Module):
    """From codes to vectors."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.project_out = nn.Linear(DIGITS, size)
        self.register_buffer("basis", torch.from_numpy(BASIS.astype(np.int64)), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Int [B, T] to [B, T, size]."""
        digits = codes[..., None].div(self.get_buffer("basis"), rounding_mode="floor") % LEVELS
        half = LEVELS // 2
        out: Tensor = self.project_out((digits - half).to(self.project_out.weight.dtype) / half)
        return out


class Generator(nn.Module):
    """What the published checkpoints call ``generator``."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.quantizer = Quantizer(shape.quantizer)
        self.backbone = Backbone(shape)
        self.head = IstftHead(shape.hidden)


class NeuCodecDecoder(nn.Module):
    """Codes to sound."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.generator = Generator(shape)
        self.fc_post_a = nn.Linear(shape.quantizer, shape.hidden)

    def forward(self, codes: Tensor) -> Tensor:
        """Int [B, T] to float32 [B, 480 * T]."""
        x = self.fc_post_a(self.generator.quantizer(codes))
        out: Tensor = self.generator.head(self.generator.backbone(x))
        return out


TorchPrecision: TypeAlias = Literal["float32", "bfloat16"]

DEFAULT_WINDOWS = (38, 45, 55, 80)
"""A look-back of 25 codes, pieces of 8, 15, 25 and 50, and 5 codes of look-forward."""


class TorchCodec:
    """One decoder; ``windows`` are the lengths that ``graphs`` captures, where there are any.

    A length that cannot be captured is decoded as it is, like every other.
    """

    def __init__(
        self, module: NeuCodecDecoder, windows: tuple[int, ...], graphs: GraphApi | None = None
    ) -> None:
        self._module = module
        self._device = module.fc_post_a.weight.device
        self._captures: Captures[int] | None = None
        if graphs is None or not windows:
            return
        self._codes = torch.zeros(1, max(windows), dtype=torch.int64, device=self._device)
        self._sound = torch.zeros(1, max(windows) * HOP, device=self._device)
        statics = StaticTensors().module(module).buffers((self._codes, self._sound))
        self._captures = Captures("NeuCodec", graphs, statics)
        self._captures.warm(Job(size, size, partial(self._replayed, size)) for size in windows)

    @property
    def device(self) -> str:
        """Where it runs: "cpu" or "cuda:0"."""
        return str(self._device)

    @property
    def windows(self) -> tuple[int, ...]:
        """Captured lengths, ascending; none on a CPU."""
        return () if self._captures is None else tuple(sorted(self._captures.keys))

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
    def details(self) -> dict[str, Any]:
        """What it computes with, and what was captured."""
        dtype = self._module.fc_post_a.weight.dtype
        told = {"runtime": "torch", "precision": str(dtype).removeprefix("torch.")}
        return told if self._captures is None else told | self._captures.told()

    def decode(self, codes: Codes) -> Samples:
        """(T,) to (T * 480,) float32. Raises InputError for wrong codes, EngineError."""
        checked = torch.from_numpy(checked_codes(codes).astype(np.int64))[None]
        try:
            with torch.inference_mode():
                sound: Samples = self._decoded(checked.to(self._device))[0].cpu().numpy()
        except RuntimeError as error:
            raise EngineError(f"The codec failed on {len(codes)} codes.") from error
        return sound

    def close(self) -> None:
        """Give back the memory."""
        if self._captures is not None:
            self._captures.release()
        self._module.to("meta")
        empty_cache(self._device)

    def _decoded(self, codes: Tensor) -> Tensor:
        """[1, T] codes to [1, T * 480] samples, by a replay where that length was captured."""
        size = codes.shape[1]
        if self._captures is None:
            return self._module(codes)  # type: ignore[no-any-return]
        made: list[Tensor] = []
        if self._captures.holds(size):
            self._codes[:, :size].copy_(codes)
        self._captures.run(size, lambda: made.append(self._module(codes)))
        return made[0] if made else self._sound[:, : size * HOP]

    @torch.no_grad()
    def _replayed(self, size: int) -> None:
        """What is captured for ``size`` codes."""
        self._sound[:, : size * HOP].copy_(self._module(self._codes[:, :size]))


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
    module = load_decoder(open_decoder(path), torch.device(at), getattr(torch, name))
    return TorchCodec(module, windows, CudaGraphs(torch.device(at)) if device == "cuda" else None)


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
