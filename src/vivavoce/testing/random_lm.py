"""Checkpoints with random weights in the Hugging Face layout, for tests, benchmarks and checks.

They load wherever a published one does and say nothing anyone would understand. Needs the
package ``gguf``, whose random files have the same sizes, vocabularies and planted end: element 0
of the hidden state carries only what the last code put there, and END's row reads it alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any, Literal, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vivavoce.engines.neutts.backbone import SPEECH_CODES
from vivavoce.engines.neutts.torch_checkpoint import EMBEDDING, HEAD, WEIGHTS, tensor_shapes
from vivavoce.engines.neutts.torch_config import ARCHITECTURES, CONFIG, TOKENIZER, read_config
from vivavoce.errors import ModelFileError, UnknownModel
from vivavoce.runtime.bfloat16 import to_bfloat16
from vivavoce.runtime.checkpoint import Shape
from vivavoce.runtime.json_config import JsonObject
from vivavoce.runtime.safetensors_file import writing
from vivavoce.testing.random_gguf import PUBLISHED, ModelShape, tiny
from vivavoce.testing.random_vocabulary import TokenList, token_list, tokenizer_json

Floats: TypeAlias = NDArray[np.float32]
Stored: TypeAlias = Literal["F32", "F16", "BF16"]

LOGIT_SPREAD = 3.0
"""The head's logits are spread this far, so that sampling prefers some codes clearly."""

END_ELEMENT = 0
END_MARK, END_GAIN = 2.0, 60.0
WRITERS_GAIN = 3.0
"""Layers outweigh the embedding, so that the model does not just repeat its last token."""

WRITERS = ("o_proj.weight", "down_proj.weight")
"""What writes into the hidden state, and must leave the end's element alone."""

BLOCK_VALUES = 1 << 22


@dataclass(frozen=True, slots=True)
class RandomLm:
    """What to make. ``end_every``-th codes are followed by END; 0: none is."""

    name: str
    small: bool = False
    real_vocabulary: bool | None = None
    dtype: Stored = "BF16"
    tied: bool = True
    seed: int = 0
    end_every: int = 97

    @property
    def shape(self) -> ModelShape:
        """The decoder's sizes. Raises UnknownModel."""
        if self.name not in PUBLISHED:
            raise UnknownModel(self.name, PUBLISHED)
        published = PUBLISHED[self.name]
        return (
            replace(tiny(published), rope_divisor=published.rope_divisor)
            if self.small
            else (published)
        )

    def tokens(self) -> TokenList:
        """The vocabulary, of true size unless ``small``."""
        real = not self.small if self.real_vocabulary is None else self.real_vocabulary
        return token_list(self.shape.family, real_size=real)


def make_random_lm(wanted: RandomLm, folder: Path | str) -> Path:
    """Write config.json, tokenizer.json and model.safetensors of "neutts-air", "neutts-nano" or
    "neutts-2e" into ``folder``.

    The same arguments give the same bytes with the same numpy. Raises UnknownModel, and
    ModelFileError where the folder cannot be written.
    """
    folder, tokens = Path(folder), wanted.tokens()
    config = config_json(wanted.shape, len(tokens.names), tied=wanted.tied)
    shapes = tensor_shapes(read_config(JsonObject(folder / CONFIG, config)), tied=wanted.tied)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        (folder / TOKENIZER).write_text(tokenizer_json(wanted.shape.family, tokens), "utf-8")
        _write(folder / WEIGHTS, shapes, wanted.dtype, _Draw(wanted, tokens))
    except OSError as error:
        raise ModelFileError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return folder


def config_json(shape: ModelShape, rows: int, *, tied: bool = True) -> dict[str, Any]:
    """A config.json as the published classes write it."""
    architecture = shape.family.architecture
    classes: dict[str, str] = {kind: name for name, kind in ARCHITECTURES.items()}
    scaling = {"rope_type": "linear", "factor": shape.rope_divisor}
    return {
        "architectures": [classes[architecture]],
        "model_type": architecture,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "vocab_size": rows,
        "max_position_embeddings": shape.context_tokens,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_base,
        "rope_scaling": None if shape.rope_divisor == 1.0 else scaling,
        "attention_bias": False,
        "tie_word_embeddings": tied,
    }


def _write(path: Path, shapes: Mapping[str, Shape], dtype: Stored, draw: _Draw) -> None:
    with writing(path, {name: (dtype, shape) for name, shape in shapes.items()}) as file:
        for name, shape in shapes.items():
            for block in draw.blocks(name, shape):
                file.write(_as(block, dtype).tobytes())


def _as(block: Floats, dtype: Stored) -> NDArray[Any]:
    if dtype == "BF16":
        return to_bfloat16(block)
    return block.astype("<f2" if dtype == "F16" else "<f4")


@dataclass(frozen=True)
class _Draw:
    """Random values of every tensor by its name; the order of asking does not matter."""

    wanted: RandomLm
    tokens: TokenList

    def blocks(self, name: str, shape: Shape) -> Iterator[Floats]:
        """The values of one tensor, whole rows at a time."""
        rng = np.random.Generator(np.random.SFC64([self.wanted.seed, crc32(name.encode())]))
        step = max(1, BLOCK_VALUES // int(np.prod(shape[1:])))
        for first in range(0, shape[0], step):
            size = (min(step, shape[0] - first), *shape[1:])
            block = rng.standard_normal(size, dtype=np.float32)
            block *= np.float32(self._spread(name, shape))
            if name.endswith("norm.weight"):
                block += np.float32(1)
            self._plant_end(name, first, block)
            yield block

    def _spread(self, name: str, shape: Shape) -> float:
        if name in (EMBEDDING, HEAD):
            return LOGIT_SPREAD / sqrt(shape[1])
        if len(shape) == 1:
            return 0.05
        layers = self.wanted.shape.layers
        gain = WRITERS_GAIN / sqrt(layers) if name.endswith(WRITERS) else 1.0
        return gain / sqrt(shape[1])

    def _plant_end(self, name: str, first: int, block: Floats) -> None:
        if name.endswith(WRITERS) and first == 0:
            block[END_ELEMENT] = 0.0
        if name not in (EMBEDDING, HEAD):
            return
        block[:, END_ELEMENT] = 0.0
        rows = np.arange(first, first + len(block))
        every = self.wanted.end_every
        if every and name == EMBEDDING:
            codes = rows - self.tokens.first_speech
            ending = (codes >= 0) & (codes < SPEECH_CODES) & (codes % every == 0)
            block[ending, END_ELEMENT] = END_MARK
        block[rows == self.tokens.end] = 0.0
        block[rows == self.tokens.end, END_ELEMENT] = END_GAIN
