"""One talker with its weights in one form, and the forms that the engine does not offer."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from vivavoce.engines.qwen3.checkpoint import Checkpoint, open_checkpoint
from vivavoce.engines.qwen3.model import load_talker
from vivavoce.runtime.nn import int8_cpu
from vivavoce.runtime.nn.linear import Joining, Linear, quantized_bytes
from vivavoce.runtime.nn.quantize import Unlisted
from vivavoce.runtime.nn.weights import Precision

GROUP = 32
THRESHOLD = 6.0
"""Of LLM.int8(): activations over it are computed in float16 (Dettmers et al. 2022)."""
OUTLIERS, OUTLIER_GAIN = 6, 20.0
"""How many channels are made large by ``outliers``, and how many times as large."""


@dataclass(frozen=True)
class Form:
    """A dtype of activations, what the engine stores, and what is made of it afterwards."""

    dtype: torch.dtype
    precision: Precision = Precision.NONE
    change: Callable[[nn.Module], None] | None = None
    weight_only: bool = False


@dataclass(frozen=True)
class Variant:
    """A talker in memory."""

    name: str
    dtype: torch.dtype
    config: Any
    talker: Any

    @classmethod
    def load(cls, name: str, folder: Path, *, outliers: bool = False) -> Variant:
        """Read the talker of a checkpoint and bring it into the form of that name."""
        checkpoint = open_checkpoint(folder)
        if outliers:
            checkpoint = WithOutliers(
                checkpoint.folder, checkpoint.config, checkpoint.model, checkpoint.codec
            )
        form = FORMS[name]
        with without_integer_kernels(form.weight_only):
            talker = load_talker(checkpoint, form.dtype, torch.device("cpu"), form.precision)
        if form.change is not None:
            form.change(talker)
        gc.collect()
        return cls(name, form.dtype, checkpoint.config, talker)

    def rows(self, count: int, positions: int) -> Any:
        """Fresh rows."""
        from vivavoce.engines.qwen3.rows import Rows

        return Rows(self.config.talker, count, positions, torch.zeros(1, dtype=self.dtype))

    def weights_bytes(self) -> int:
        """Memory of the talker and the code predictor, embeddings included, where known."""
        floats = sum(tensor.nbytes for tensor in self.talker.state_dict().values())
        return int(floats + quantized_bytes(self.talker))


class WithOutliers(Checkpoint):
    """Six channels of every norm before a matrix are 20 times as large.

    Trained models have such channels; random weights do not, and are kind to 8-bit activations.
    """

    def tensor(
        self, name: str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> Tensor:
        """As in the file, but for those norms."""
        found = Checkpoint.tensor(self, name, dtype, device)
        if name.endswith(("input_layernorm.weight", "post_attention_layernorm.weight")):
            step = len(found) // OUTLIERS
            found[step // 2 :: step][:OUTLIERS] *= OUTLIER_GAIN
        return found


@contextmanager
def without_integer_kernels(wanted: bool) -> Iterator[None]:
    """A CPU computes int8 weights as a GPU does: activations stay as they are."""
    if not wanted:
        yield
        return
    with mock.patch.object(int8_cpu, "available", lambda: False):
        yield


class Int4:
    """4 bits in groups of 32, symmetric, bfloat16 activations; PyTorch's own kernel."""

    def __init__(self, weight: Tensor) -> None:
        self.shape = outputs, inputs = weight.shape
        grouped = weight.detach().float().view(outputs, -1, GROUP)
        scales = grouped.abs().amax(-1).clamp(min=1e-12) / 7
        steps = (grouped / scales[..., None]).round().clamp(-8, 7) + 8
        whole = steps.view(outputs, inputs).to(torch.int32)
        self._packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(whole, 1)
        pairs = torch.stack((scales, torch.zeros_like(scales)), -1).transpose(0, 1)
        self._scales = pairs.contiguous().bfloat16()

    @property
    def nbytes(self) -> int:
        """Memory of values and scales."""
        return self.shape[0] * self.shape[1] // 2 + self._scales.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, self.shape[1])
        out: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            flat, self._packed, GROUP, self._scales
        )
        return out.view(*x.shape[:-1], self.shape[0])


class Int4Linear(Unlisted):
    """In the place of a map."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self._matrix = Int4(weight)

    @property
    def nbytes(self) -> int:
        """Memory of the matrix."""
        return self._matrix.nbytes

    def forward(self, x: Tensor) -> Tensor:
        """The product with the matrix, as any linear layer has it."""
        return self._matrix(x)


def to_int4(talker: nn.Module) -> None:
    """Swap what the engine would quantize."""
    for module in list(talker.modules()):
        if isinstance(module, Joining):
            assert isinstance(module.joined, Tensor)
            module.joined = Int4(module.joined)  # type: ignore[assignment]
            for part in module.parts():
                part.weight = None  # type: ignore[assignment]
    _swap(talker, Int4Linear)


def to_llm_int8(talker: nn.Module) -> None:
    """bitsandbytes' LLM.int8() in the place of what the engine would quantize."""
    warnings.filterwarnings("ignore", message="MatMul8bitLt")
    for module in talker.modules():
        if isinstance(module, Joining):
            module.joined = None
    _swap(talker, llm_int8)


def llm_int8(weight: Tensor) -> nn.Module:
    """One map of bitsandbytes, quantized."""
    from bitsandbytes.nn import Linear8bitLt

    outputs, inputs = weight.shape
    made = Linear8bitLt(inputs, outputs, bias=False, has_fp16_weights=False, threshold=THRESHOLD)
    made.load_state_dict({"weight": weight.detach().half()})
    quantized: nn.Module = made.to("cpu").eval()
    return quantized


def _swap(talker: nn.Module, make: Callable[[Tensor], nn.Module]) -> None:
    for owner in list(talker.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, Linear) and name != "codec_head" and child.weight is not None:
                setattr(owner, name, make(child.weight))


FORMS = {
    "float32": Form(torch.float32),
    "bfloat16": Form(torch.bfloat16),
    "int8_weight_only": Form(torch.bfloat16, Precision.INT8, weight_only=True),
    "fp8_weight_only": Form(torch.bfloat16, Precision.FP8),
    "int8": Form(torch.float32, Precision.INT8),
    "int4": Form(torch.bfloat16, change=to_int4),
    "llm_int8": Form(torch.bfloat16, change=to_llm_int8),
}
