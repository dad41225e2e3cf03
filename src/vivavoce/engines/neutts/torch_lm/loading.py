"""From an opened folder to a model in memory, fused and cut."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vivavoce.engines.neutts.torch_lm.model import SpeechLm
from vivavoce.engines.neutts.torch_lm.tensor_names import EMBEDDING, published_parts
from vivavoce.engines.neutts.torch_lm.weights import Weights
from vivavoce.errors import ModelFileError

FILLED = (nn.Linear, nn.RMSNorm)


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
    weights: Weights,
    choices: Choices,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> Loaded:
    """Read everything. Raises ModelFileError.

    Beside the model itself, one of its tensors at most is in memory at any time.
    """
    last = choices.first_speech_id + choices.speech
    if max(last, choices.end_id + 1) > weights.config.vocab_size:
        raise ModelFileError(
            f"{weights.folder}: the tokenizer has more tokens than the "
            f"{weights.config.vocab_size} rows of the model."
        )
    with torch.device("meta"):
        model = SpeechLm(weights.config, choices.size)
    reader = _Reader(weights, dtype, device)
    model.embed_tokens.weight = _parameter(reader.embedding())
    reader.fill(model)
    model.head.weight = _parameter(reader.head(choices, model.embed_tokens.weight))
    read = sum(each.nbytes for each in _tensors(model)) - model.embed_tokens.weight.nbytes
    return Loaded(model.eval(), _bytes(model), read)


@dataclass(frozen=True, slots=True)
class _Reader:
    weights: Weights
    dtype: torch.dtype
    device: torch.device

    def embedding(self) -> Tensor:
        """The table, no wider than it is stored: its rows are made wide when they are used."""
        stored = self.weights.dtype(EMBEDDING)
        dtype = stored if stored.itemsize < self.dtype.itemsize else self.dtype
        config = self.weights.config
        table = torch.empty(config.vocab_size, config.hidden_size, dtype=dtype, device=self.device)
        self.weights.read_into(EMBEDDING, table)
        return table

    def fill(self, model: SpeechLm) -> None:
        """The layers and every norm."""
        for at, module in model.named_modules():
            if at == "head" or not isinstance(module, FILLED):
                continue
            for name, old in list(module.named_parameters()):
                setattr(module, name, _parameter(self.parameter(f"{at}.{name}", old)))

    def parameter(self, name: str, like: Tensor) -> Tensor:
        """One parameter of the shape of ``like``, from the published tensors stacked in it."""
        out = torch.empty(like.shape, dtype=self.dtype, device=self.device)
        start = 0
        for part in published_parts(name):
            rows = self.weights.files[part].entries[part].shape[0]
            self.weights.read_into(part, out[start : start + rows])
            start += rows
        return out

    def head(self, choices: Choices, table: Tensor) -> Tensor:
        """END's row and the speech tokens' rows; a view of the embedding table where it can be."""
        shared = self.weights.tied and choices.together and table.dtype == self.dtype
        if shared:
            return table[choices.end_id : choices.end_id + choices.size]
        rows = torch.empty(choices.size, table.shape[1], dtype=self.dtype, device=self.device)
        self.weights.read_into(self.weights.head, rows[:1], choices.end_id)
        self.weights.read_into(self.weights.head, rows[1:], choices.first_speech_id)
        return rows


def _parameter(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)


def _tensors(model: nn.Module) -> tuple[Tensor, ...]:
    return (*model.parameters(), *model.buffers())


def _bytes(model: nn.Module) -> int:
    """Memory of parameters and buffers, shared memory counted once."""
    stores = [tensor.untyped_storage() for tensor in _tensors(model)]
    return sum({store.data_ptr(): store.nbytes() for store in stores}.values())
