"""A checkpoint folder: checked strictly when it is opened, loaded tensor by tensor.

Loading holds the target and one tensor more, never two copies: a tensor is read straight into
the memory it will live in, or converted alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.tensor_shapes import Shape, codec_shapes, model_shapes
from vivavoce.errors import ModelFileError
from vivavoce.runtime.checkpoint import differences, in_words
from vivavoce.runtime.safetensors_file import SafetensorsFile

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

WEIGHTS = "model.safetensors"
CODEC_WEIGHTS = "speech_tokenizer/model.safetensors"
CODEC = "codec."
"""Names below this prefix are those of the codec's file; all others are of model.safetensors."""

TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")
FILES = (
    "config.json",
    "generation_config.json",
    *TOKENIZER_FILES,
    WEIGHTS,
    "speech_tokenizer/config.json",
    CODEC_WEIGHTS,
)
DTYPES = ("BF16", "F16", "F32")
MIN_USAGE = 1e-5

Swap: TypeAlias = "Callable[[str, nn.Module], Callable[[Tensor], nn.Module] | None]"
"""From a name and the module that holds it to what makes its replacement; None leaves it."""

Unused: TypeAlias = Callable[[str], bool]
"""Says of a name below the prefix that a module has no parameter for it, on purpose."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened checkpoint. Names are the official ones; the codec's stand below ``codec.``."""

    folder: Path
    config: Qwen3Config
    model: SafetensorsFile
    codec: SafetensorsFile

    @property
    def size_bytes(self) -> int:
        """Both weight files together."""
        return self.model.size_bytes + self.codec.size_bytes

    def names(self, prefix: str = "") -> list[str]:
        """The names below ``prefix`` (which is cut off): "talker.", "codec.decoder.", …"""
        known = [*self.model.entries, *(CODEC + name for name in self.codec.entries)]
        return [name.removeprefix(prefix) for name in known if name.startswith(prefix)]

    def tensor(
        self, name: str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> Tensor:
        """One tensor in its own memory; ``dtype`` None keeps the file's. Raises ModelFileError."""
        import torch

        file, key = self._place(name)
        entry = file.entries[key]
        stored = torch.empty(entry.shape, dtype=_torch_dtype(entry.dtype))
        file.read_into(key, stored.view(-1).view(torch.uint8).numpy().data)
        return stored.to(device=device, dtype=dtype or stored.dtype)

    def read_into(self, name: str, out: Tensor) -> None:
        """Copy one tensor into ``out`` (a slice of a fused weight, say), converting it."""
        stored = self.tensor(name)
        if stored.shape != out.shape:
            raise ModelFileError(
                f"{self.folder}: {name} is {list(stored.shape)}, not {list(out.shape)}."
            )
        out.copy_(stored)

    def tensors(
        self, prefix: str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[str, Tensor]]:
        """Every tensor below ``prefix`` with the rest of its name, one at a time."""
        for name in self.names(prefix):
            yield name, self.tensor(prefix + name, dtype, device)

    def load_into(
        self,
        module: nn.Module,
        prefix: str,
        *,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        unused: Unused | None = None,
        swap: Swap | None = None,
    ) -> None:
        """Put the tensors below ``prefix`` in the place of ``module``'s parameters and buffers.

        The module's are replaced one by one, so build it on the meta device
        (``with torch.device("meta")``). Parameters ask for no gradient afterwards. Raises
        ModelFileError where module and file do not have the same names and shapes; names of the
        file for which ``unused`` is true may be without a place.

        Where ``swap`` gives something for a name and the module that holds it, that module is
        replaced with what is made of the tensor, which is as in the file and on the CPU.
        """
        wanted = module.state_dict(keep_vars=True)
        given = self.names(prefix)
        missing = [name for name in wanted if name not in set(given)]
        extra = [name for name in given if name not in wanted and not (unused and unused(name))]
        if missing or extra:
            what = in_words({"missing": missing, "unexpected": extra})
            raise ModelFileError(f"{self.folder}: {prefix}* does not fit the module: {what}.")
        # The largest first: for a moment it is in memory twice, when there is nothing else yet.
        for name in sorted(wanted, key=lambda each: -wanted[each].numel()):
            make = swap(name, _owner(module, name)) if swap else None
            if make is not None:
                _swap(module, name, make(self.tensor(prefix + name)))
                continue
            loaded = self.tensor(prefix + name, dtype, device)
            _place_in(module, name, loaded, f"{self.folder}: {prefix}{name}")

    def decoder_codebooks(self) -> Tensor:
        """All codebooks of the codec's decoder: float32 [num_quantizers, codebook_size, dim]."""
        rest = self.config.codec.decoder.num_quantizers - 1
        books = ["rvq_first.vq.layers.0", *(f"rvq_rest.vq.layers.{i}" for i in range(rest))]
        at = [f"{CODEC}decoder.quantizer.{book}._codebook." for book in books]
        return self._codebooks(at, "embedding_sum")

    def encoder_codebooks(self) -> Tensor:
        """The encoder's codebooks that are used: float32 [num_quantizers, codebook_size, dim]."""
        rest = self.config.codec.encoder_valid_num_quantizers - 1
        books = ["semantic_residual_vector_quantizer.layers.0"]
        books += [f"acoustic_residual_vector_quantizer.layers.{i}" for i in range(rest)]
        at = [f"{CODEC}encoder.quantizer.{book}.codebook." for book in books]
        return self._codebooks(at, "embed_sum")

    def _codebooks(self, prefixes: Iterable[str], total: str) -> Tensor:
        import torch

        return torch.stack(
            [
                codebook(self.tensor(at + total), self.tensor(at + "cluster_usage"))
                for at in prefixes
            ]
        )

    def _place(self, name: str) -> tuple[SafetensorsFile, str]:
        file, key = (self.model, name)
        if name.startswith(CODEC):
            file, key = self.codec, name.removeprefix(CODEC)
        if key not in file.entries:
            raise ModelFileError(f"{file.path} has no tensor {key!r}.")
        return file, key


def codebook(embedding_sum: Tensor, cluster_usage: Tensor) -> Tensor:
    """The vectors of a codebook in float32 [size, dim], from what training accumulated."""
    return embedding_sum.float() / cluster_usage.float().clamp(min=MIN_USAGE)[:, None]


def open_checkpoint(folder: Path | str) -> Checkpoint:
    """Open and check a local folder in the published layout; weights are not read yet.

    Every tensor that the configuration asks for must be there with its shape, and no other.
    Raises ModelFileError that names the file and what is wrong with it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelFileError(f"{folder} is no folder with a checkpoint.")
    absent = [name for name in FILES if not (folder / name).is_file()]
    if absent:
        raise ModelFileError(f"{folder} is no whole checkpoint: {', '.join(absent)} missing.")
    config = Qwen3Config.load(folder)
    return Checkpoint(
        folder,
        config,
        _checked(folder / WEIGHTS, model_shapes(config)),
        _checked(folder / CODEC_WEIGHTS, codec_shapes(config.codec)),
    )


def _checked(path: Path, expected: Mapping[str, Shape]) -> SafetensorsFile:
    file = SafetensorsFile.open(path)
    if faults := differences(expected, file.entries, DTYPES):
        raise ModelFileError(f"{path} does not fit its config.json: {faults}.")
    return file


def _torch_dtype(name: str) -> torch.dtype:
    import torch

    return {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}[name]


def _place_in(module: nn.Module, name: str, loaded: Tensor, what: str) -> None:
    import torch

    owner, last = _owner(module, name), name.rpartition(".")[2]
    old = getattr(owner, last)
    if old.shape != loaded.shape:
        raise ModelFileError(f"{what} is {list(loaded.shape)}, the module's {list(old.shape)}.")
    if isinstance(old, torch.nn.Parameter):
        setattr(owner, last, torch.nn.Parameter(loaded, requires_grad=False))
    else:
        setattr(owner, last, loaded)


def _owner(module: nn.Module, name: str) -> nn.Module:
    return module.get_submodule(name.rpartition(".")[0])


def _swap(module: nn.Module, name: str, part: nn.Module) -> None:
    """Put ``part`` in the place of what holds the parameter ``name``."""
    at, _, last = name.rpartition(".")[0].rpartition(".")
    setattr(module.get_submodule(at), last, part)
