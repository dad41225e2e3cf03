"""A checkpoint in memory: talker, codec decoder, tokenizer, and the encoders when first needed."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from vivavoce.engines.qwen3.checkpoint import Checkpoint, open_checkpoint
from vivavoce.engines.qwen3.codec.decoder import CodecDecoder, load_decoder
from vivavoce.engines.qwen3.codec.encoder import CodecEncoder, load_encoder
from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.device import Place
from vivavoce.engines.qwen3.speaker import SpeakerEncoder, load_speaker_encoder
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.engines.qwen3.tokenizer import TextTokenizer
from vivavoce.runtime.kernels.dispatch import Path as KernelPath
from vivavoce.runtime.kernels.dispatch import chosen
from vivavoce.runtime.nn.int8_decoder import shorten
from vivavoce.runtime.nn.linear import Joining, Linear, quantized_bytes
from vivavoce.runtime.nn.quantize import Few, QuantizedEmbedding, QuantizedLinear
from vivavoce.runtime.nn.weights import Precision, quantize


@dataclass(slots=True)
class Model:
    """Everything read from one folder. The codec and the encoders are in float32."""

    checkpoint: Checkpoint
    place: Place
    talker: Talker
    codec: CodecDecoder
    tokenizer: TextTokenizer
    _encoder: CodecEncoder | None = None
    _speaker: SpeakerEncoder | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def load(cls, folder: Path, place: Place) -> Model:
        """Read a folder in the published layout. Raises ModelFileError, MissingExtra."""
        checkpoint = open_checkpoint(folder)
        tokenizer = TextTokenizer.load(folder)
        talker = load_talker(checkpoint, place.dtype, place.device, place.precision)
        codec = load_decoder(checkpoint, device=place.device)
        return cls(checkpoint, place, talker, codec, tokenizer)

    @property
    def config(self) -> Qwen3Config:
        """What the checkpoint says of itself."""
        return self.checkpoint.config

    def encoder(self) -> CodecEncoder:
        """The codec's encoder, read when first asked for; from any thread."""
        with self._lock:
            if self._encoder is None:
                self._encoder = load_encoder(self.checkpoint, device=self.place.device)
            return self._encoder

    def speaker(self) -> SpeakerEncoder:
        """The speaker encoder of a base model, read when first asked for; from any thread."""
        with self._lock:
            if self._speaker is None:
                self._speaker = load_speaker_encoder(self.checkpoint, device=self.place.device)
            return self._speaker

    def weights_bytes(self, *, encoders: bool = True) -> int:
        """Memory of what is loaded, with or without the encoders."""
        heard = (self._encoder, self._speaker) if encoders else ()
        parts = (self.talker, self.codec, *heard)
        return quantized_bytes(self.talker) + sum(
            tensor.nbytes
            for part in parts
            if part is not None
            for tensor in (*part.parameters(), *part.buffers())
        )


def load_talker(
    checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device, precision: Precision
) -> Talker:
    """The talker, its weights quantized as they are read. Raises ModelFileError, InputError."""
    with torch.device("meta"):
        talker = Talker(checkpoint.config.talker)
    checkpoint.load_into(
        talker,
        "talker.",
        dtype=dtype,
        device=device,
        swap=Quantizing(precision, dtype, device, few_kernel(device, dtype)),
    )
    for part in talker.modules():
        if isinstance(part, Joining):
            part.join()
            trim_memory()
        elif isinstance(part, QuantizedLinear) and part.weight is not None:
            part.prepare()
    for decoder in (talker.model, talker.code_predictor.model):
        shorten(decoder)
    return talker.eval()


def few_kernel(device: torch.device, dtype: torch.dtype) -> Few | None:
    """What multiplies few rows on the device, None where nothing beats PyTorch."""
    kernels = chosen(device, dtype)
    return kernels.linear if kernels.path is KernelPath.TRITON else None


def give_back(device: torch.device) -> None:
    """Return freed memory to the system, after the last reference is gone."""
    gc.collect()
    if device.type == "cuda":
        from vivavoce.runtime.graphs.cuda import forget_workspaces

        forget_workspaces()
        torch.cuda.empty_cache()
        forget_pinned = getattr(torch.accelerator, "empty_host_cache", None)
        if forget_pinned is not None:
            forget_pinned()
    else:
        trim_memory()


def trim_memory() -> None:
    """Where the C library is GNU's: it keeps what was freed between blocks that are still held."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


READ_BY_FRAMES = ("model.layers.", "code_predictor.")
"""All that a frame reads but the head of code 0, which decides where speech ends, and the text's
projection: 1 % of the bytes. The one before the code predictor of 1.7B stays as well: kernels read
it once a frame, 4.2 of 2,660 MB, and its error would be in all that the predictor hears."""

TEXT_TABLE = "model.text_embedding.weight"
"""A third of all weights of 0.6B, of which a frame reads one row: int8 with any precision."""


SCALE_BYTES = 4
"""One for each row of a matrix."""


@dataclass(frozen=True, slots=True)
class Quantizing:
    """A ``checkpoint.Swap``: one matrix at a time, so that no float copy of them is kept.

    ``dtype`` is that of activations; ``few``: see ``layers.quantized.WeightOnly``.
    """

    precision: Precision
    dtype: torch.dtype
    device: torch.device
    few: Few | None = None

    def __call__(self, name: str, owner: nn.Module) -> Callable[[Tensor], nn.Module] | None:
        """What makes the replacement of ``owner``, which holds the tensor ``name``."""
        if self.precision is Precision.NONE:
            return None
        if name == TEXT_TABLE:
            return self._table
        if name.startswith(READ_BY_FRAMES) and isinstance(owner, Linear):
            return self._map
        return None

    def _map(self, stored: Tensor) -> nn.Module:
        return QuantizedLinear(quantize(stored.to(self.device), self.precision), self.few)

    def _table(self, stored: Tensor) -> nn.Module:
        """On the CPU: whole, it is more than a small GPU has to spare."""
        return QuantizedEmbedding(stored, self.dtype).to(self.device)


def weights_bytes(talker: nn.Module, quantizing: Quantizing, prefix: str = "") -> int:
    """Memory that a talker's weights below ``prefix`` take on a GPU; it may be on the meta device.

    Scratch of kernels and what an allocator rounds up to are not in it.
    """
    total = 0
    for name, tensor in talker.state_dict(keep_vars=True).items():
        if not name.startswith(prefix):
            continue
        owner = talker.get_submodule(name.rpartition(".")[0])
        if quantizing(name, owner) is None:
            total += tensor.numel() * quantizing.dtype.itemsize
        else:
            total += tensor.numel() + SCALE_BYTES * len(tensor)
    return total
