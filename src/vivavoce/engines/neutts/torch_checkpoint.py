"""A checkpoint in the Hugging Face layout as a model in memory, its head cut to what it may say.

The folder is checked strictly when it is opened, and read piece by piece: reading holds the target
and one block of a tensor, never two copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from vivavoce.engines.neutts.torch_config import LmConfig, resolve_tied
from vivavoce.errors import ModelFileError
from vivavoce.runtime.checkpoint import Shape, differences
from vivavoce.runtime.json_config import JsonObject
from vivavoce.runtime.nn.decoder import Attention, Decoder
from vivavoce.runtime.nn.kv import Cache, Placement
from vivavoce.runtime.nn.linear import Joining, Linear
from vivavoce.runtime.safetensors_file import SafetensorsFile

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
BLOCK_BYTES = 1 << 25
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


@dataclass(frozen=True, slots=True)
class Weights:
    """An opened folder; ``files`` says in which file each tensor is."""

    folder: Path
    config: LmConfig
    tied: bool
    files: Mapping[str, SafetensorsFile]

    @property
    def head(self) -> str:
        """The name of the tensor the head is read from."""
        return EMBEDDING if self.tied else HEAD

    def dtype(self, name: str) -> torch.dtype:
        """What a tensor is stored in."""
        return DTYPES[self.files[name].entries[name].dtype]

    def read_into(self, name: str, out: Tensor, first_row: int = 0) -> None:
        """Copy rows of a tensor, from ``first_row`` on, into all of ``out``, converting them.

        ``out`` [n, ...] may be on any device. Raises ModelFileError where the file ends early.
        """
        file = self.files[name]
        entry = file.entries[name]
        rows = entry.shape[0]
        row_bytes = entry.size_bytes // rows
        step = max(1, BLOCK_BYTES // row_bytes)
        try:
            with file.path.open("rb") as stream:
                stream.seek(entry.start_byte + first_row * row_bytes)
                for start in range(0, out.shape[0], step):
                    part = out[start : start + step]
                    part.copy_(_block(stream, part.shape, DTYPES[entry.dtype]))
        except (OSError, EOFError) as error:
            raise ModelFileError(f"{file.path}: {name} cannot be read: {error}") from error


def _block(stream: BinaryIO, shape: Shape, dtype: torch.dtype) -> Tensor:
    size = int(np.prod(shape)) * dtype.itemsize
    data = bytearray(stream.read(size))
    if len(data) != size:
        raise EOFError("the file ended early")
    return torch.frombuffer(data, dtype=dtype).view(shape)


def open_weights(folder: Path | str) -> Weights:
    """Open and check a local folder; no tensor is read yet.

    Every tensor that config.json asks for must be there with its shape, and no other, but a
    stored head of a tied model. Raises ModelFileError that names the file and what is wrong.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelFileError(f"{folder} is no folder with a checkpoint.")
    config = LmConfig.load(folder)
    files = _files(folder)
    tied = resolve_tied(config, has_head=HEAD in files, where=folder)
    expected = tensor_shapes(config, tied=tied)
    entries = {name: file.entries[name] for name, file in files.items()}
    if tied:
        entries.pop(HEAD, None)
    if faults := differences(expected, entries, tuple(DTYPES)):
        raise ModelFileError(f"{folder}: the tensors do not fit config.json: {faults}.")
    return Weights(folder, config, tied, files)


def _files(folder: Path) -> dict[str, SafetensorsFile]:
    """Every tensor's file: one file of all, or those that an index names."""
    if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file():
        file = SafetensorsFile.open(folder / WEIGHTS)
        return dict.fromkeys(file.entries, file)
    index = JsonObject.read(folder / INDEX).child("weight_map")
    names = {index.get(key, str) for key in index.values}
    outside = sorted(name for name in names if Path(name).name != name)
    if outside:
        raise ModelFileError(f"{folder / INDEX} names {outside[0]!r}, which is no plain name.")
    opened = [SafetensorsFile.open(folder / name) for name in sorted(names)]
    return {name: file for file in opened for name in file.entries}


class SpeechLm(Decoder):
    """Token ids of the whole vocabulary in, scores of ``choices`` tokens out.

    The head's rows are END and the speech codes in order. The embedding table may have another
    dtype than the rest.
    """

    def __init__(self, config: LmConfig, choices: int) -> None:
        super().__init__(config.shape)
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.head = Linear(config.hidden_size, choices)

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in."""
        return self.norm.weight.dtype

    def forward(self, ids: Tensor, at: Placement, kv: Cache) -> Tensor:
        """``ids`` [B, T] to normalized hidden states [B, T, hidden]; fills ``kv``."""
        return super().forward(self.embed_tokens(ids).to(self.dtype), at, kv)

    def scores(self, hidden: Tensor) -> Tensor:
        """[B, hidden] to float32 [B, choices]."""
        logits: Tensor = self.head(hidden)
        return logits.float()


def tensor_shapes(config: LmConfig, *, tied: bool) -> dict[str, Shape]:
    """The tensors of a checkpoint by their published names."""
    with torch.device("meta"):
        model = SpeechLm(config, 1)
    shapes = {f"model.{name}": tuple(each.shape) for name, each in _body(model)}
    shapes[EMBEDDING] = (config.vocab_size, config.hidden_size)
    return shapes if tied else shapes | {HEAD: shapes[EMBEDDING]}


def _body(model: SpeechLm) -> list[tuple[str, nn.Parameter]]:
    """The parameters of the layers and every norm: all but the table and the head."""
    apart = ("embed_tokens.weight", "head.weight")
    return [each for each in model.named_parameters() if each[0] not in apart]


@dataclass(frozen=True, slots=True)
class Choices:
    """What may be drawn: END, and ``speech`` tokens that follow one another in the vocabulary."""

    end_id: int
    first_speech_id: int
    speech: int

    @property
    def size(self) -> int:
        """Rows of the head."""
        return 1 + self.speech

    @property
    def together(self) -> bool:
        """Whether END stands right before the speech tokens."""
        return self.end_id + 1 == self.first_speech_id


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model and what loading it told.

    ``read_bytes`` is what one token reads of the weights: all but the embedding table.
    """

    model: SpeechLm
    weights_bytes: int
    read_bytes: int


@torch.no_grad()
def load_model(
    weights: Weights, choices: Choices, *, dtype: torch.dtype, device: torch.device
) -> Loaded:
    """Read everything, fused and cut as it is computed. Raises ModelFileError.

    Beside the model itself, one block of one of its tensors is in memory at any time.
    """
    last = choices.first_speech_id + choices.speech
    if max(last, choices.end_id + 1) > weights.config.vocab_size:
        raise ModelFileError(
            f"{weights.folder}: the tokenizer has more tokens than the "
            f"{weights.config.vocab_size} rows of the model."
        )
    with torch.device("meta"):
        model = SpeechLm(weights.config, choices.size)
    table = _embedding(weights, dtype, device)
    model.embed_tokens.weight = _parameter(table)
    for part in model.modules():
        if isinstance(part, Joining):
            part.join_empty(dtype, device)
    for name, parameter in _body(model):
        values = parameter.data
        if parameter.is_meta:
            values = torch.empty(parameter.shape, dtype=dtype, device=device)
            at, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(at), attribute, _parameter(values))
        weights.read_into(f"model.{name}", values)
    for part in model.modules():
        if isinstance(part, Attention):
            part.join_scales()
    model.head.weight = _parameter(_head(weights, choices, table, dtype))
    stores = [each.untyped_storage() for each in model.parameters()]
    held = sum({store.data_ptr(): store.nbytes() for store in stores}.values())
    read = sum(each.nbytes for each in model.parameters()) - table.nbytes
    return Loaded(model.eval(), held, read)


def _embedding(weights: Weights, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The table, no wider than it is stored: its rows are made wide when they are used."""
    stored = weights.dtype(EMBEDDING)
    dtype = stored if stored.itemsize < dtype.itemsize else dtype
    config = weights.config
    table = torch.empty(config.vocab_size, config.hidden_size, dtype=dtype, device=device)
    weights.read_into(EMBEDDING, table)
    return table


def _head(weights: Weights, choices: Choices, table: Tensor, dtype: torch.dtype) -> Tensor:
    """END's row and the speech tokens' rows; a view of the embedding table where it can be."""
    if weights.tied and choices.together and table.dtype == dtype:
        return table[choices.end_id : choices.end_id + choices.size]
    rows = torch.empty(choices.size, table.shape[1], dtype=dtype, device=table.device)
    weights.read_into(weights.head, rows[:1], choices.end_id)
    weights.read_into(weights.head, rows[1:], choices.first_speech_id)
    return rows


def _parameter(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)
