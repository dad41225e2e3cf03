"""Checkpoints with random weights in the published layout, for tests, benchmarks and checks.

They load wherever a published one does, the published classes included, and say nothing anyone
would understand. Weights are written tensor by tensor in blocks, so that memory stays small at
true size. Scales follow each layer's number of inputs, so that activations stay finite and the
sound is neither silent nor clipped.

A random model has no reason to end, so an end is planted: one element of the talker's hidden
state (``END_ELEMENT``) carries nothing but what the frame's 16 codes add there, and the head's
row of the end reads it alone. Its logit then beats the others in a few frames of a hundred,
whatever the text says: lengths are chance (geometric, most between 3 and 40 frames under the
published sampling), not speech.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vivavoce.engines.qwen3.catalog import published
from vivavoce.engines.qwen3.checkpoint import CODEC_WEIGHTS, TOKENIZER_FILES, WEIGHTS
from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.tensor_shapes import Shape, codec_shapes, model_shapes
from vivavoce.errors import InputError, ModelFileError
from vivavoce.runtime.bfloat16 import to_bfloat16
from vivavoce.runtime.safetensors_file import writing
from vivavoce.testing.published_config import (
    SMALL_FILES,
    codec_config,
    model_config,
    small_file,
    write_tokenizer,
)

Floats: TypeAlias = NDArray[np.float32]

BLOCK_VALUES = 1 << 22
HEAD_GAIN = 3.0
"""Logits of the heads are spread this far, so that sampling prefers some codes clearly."""

END_ELEMENT = 0
END_LOGIT = 8.0
END_SPREAD = 2.0
"""How much larger than others the code embeddings are in that element."""


def make_random_checkpoint(
    name: str,
    folder: Path | str,
    *,
    tiny: bool = False,
    seed: int = 0,
    tokenizer: Path | str | None = None,
    eos_gain: float = 1.0,
) -> Path:
    """Write a random checkpoint of the published model ``name`` into ``folder`` (new or empty).

    ``tokenizer`` is a folder with vocab.json, merges.txt and tokenizer_config.json; without it
    they are the published ones, byte for byte. ``tiny`` keeps topology
    and vocabularies and makes everything else small (under 30 MB). ``eos_gain`` above 1 ends
    speech sooner, below 1 later; 0 makes speech that does not end. The same arguments give the
    same bytes with the same numpy.

    Returns the folder. Raises UnknownModel, InputError for a folder in use, ModelFileError where
    the tokenizer is missing or the folder cannot be written.
    """
    model, folder = published(name), Path(folder)
    source = None if tokenizer is None else Path(tokenizer)
    absent = [file for file in TOKENIZER_FILES if source and not (source / file).is_file()]
    if absent:
        raise ModelFileError(f"{source} is no whole tokenizer: {', '.join(absent)} missing.")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty.", param="folder")
        (folder / "speech_tokenizer").mkdir(parents=True, exist_ok=True)
        _write_tokenizer(source, folder)
        for file in SMALL_FILES:
            (folder / file).write_text(small_file(file), "utf-8")
        _write_json(folder / "config.json", model_config(model, tiny=tiny))
        _write_json(folder / "speech_tokenizer" / "config.json", codec_config(tiny=tiny))
        config = Qwen3Config.load(folder)
        _write_weights(folder / CODEC_WEIGHTS, codec_shapes(config.codec), "F32", _Draw(seed))
        end = _End(config.talker.codec_eos_token_id, eos_gain)
        draw = _Draw(seed, config.talker.num_hidden_layers, end)
        _write_weights(folder / WEIGHTS, model_shapes(config), "BF16", draw)
    except OSError as error:
        raise ModelFileError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def _write_tokenizer(source: Path | None, folder: Path) -> None:
    if source is None:
        write_tokenizer(folder)
        return
    for file in TOKENIZER_FILES:
        shutil.copyfile(source / file, folder / file)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def _write_weights(path: Path, shapes: dict[str, Shape], dtype: str, draw: _Draw) -> None:
    with writing(path, {name: (dtype, shape) for name, shape in shapes.items()}) as file:
        for name, shape in shapes.items():
            for block in draw.blocks(name, shape):
                _write_block(file, block, dtype)


def _write_block(file: BinaryIO, block: Floats, dtype: str) -> None:
    file.write((to_bfloat16(block) if dtype == "BF16" else block).tobytes())


@dataclass(frozen=True)
class _End:
    """Plants the end of speech."""

    row: int
    gain: float

    def plant(self, name: str, first_row: int, block: Floats) -> None:
        """Change what belongs to it in the rows from ``first_row`` of tensor ``name``."""
        if ".codec_embedding." in name:
            block[:, END_ELEMENT] *= np.float32(END_SPREAD)
        elif name.startswith(UNTOUCHED) and name.endswith(WRITERS) and first_row == END_ELEMENT:
            block[END_ELEMENT] = 0.0
        elif ".codec_head." in name and first_row <= self.row < first_row + len(block):
            block[self.row - first_row] = 0.0
            block[self.row - first_row, END_ELEMENT] = END_LOGIT * self.gain


UNTOUCHED = ("talker.model.layers.", "talker.text_projection.")
WRITERS = (".o_proj.weight", ".down_proj.weight", ".linear_fc2.weight", ".linear_fc2.bias")
"""What writes into the talker's hidden state, and must leave the end's element alone."""


@dataclass(frozen=True)
class _Draw:
    """Random values of every tensor by its name; the order of asking does not matter."""

    seed: int
    layers: int = 1
    end: _End | None = None

    def blocks(self, name: str, shape: Shape) -> Iterator[Floats]:
        """The values of one tensor, whole rows at a time, little-endian."""
        rng = np.random.Generator(np.random.SFC64([self.seed, crc32(name.encode())]))
        mean, spread = _scale(name, shape, self.layers)
        step = max(1, BLOCK_VALUES // prod(shape[1:]))
        for first in range(0, shape[0], step):
            size = (min(step, shape[0] - first), *shape[1:])
            block = rng.standard_normal(size, dtype=np.float32)
            block *= np.float32(spread)
            block += np.float32(mean)
            if name.endswith("cluster_usage"):
                block = np.abs(block) + np.float32(0.5)
            if self.end is not None:
                self.end.plant(name, first, block)
            yield block.astype("<f4", copy=False)


FIXED = {
    "text_embedding.weight": (0.0, 1.0),
    "norm.weight": (1.0, 0.1),
    "initialized": (1.0, 0.0),
    "cluster_usage": (1.0, 0.5),
    "embedding_sum": (0.0, 1.0),
    "embed_sum": (0.0, 1.0),
    ".alpha": (0.0, 0.1),
    ".beta": (0.0, 0.1),
    ".bias": (0.0, 0.02),
    "layer_scale.scale": (0.2, 0.02),
    ".gamma": (0.3, 0.03),
}
"""Mean and spread by the end of the name; other tensors follow their number of inputs."""

GAINS = {
    "codec_head.": HEAD_GAIN,
    ".lm_head.": HEAD_GAIN,
    ".conv2.conv.": 0.3,
    "decoder.decoder.6.": 0.1,
    "speaker_encoder.blocks.0.": 0.3,
    "speaker_encoder.": 1.4,
}
"""What a tensor's scale is multiplied by, by the first of these in its name."""


SHALLOW_LAYERS = 3
"""A deeper talker's layers add less each, so that the sum keeps its size."""


def _scale(name: str, shape: Shape, layers: int) -> tuple[float, float]:
    """Mean and standard deviation of a tensor's values, ``layers`` being the talker's depth."""
    for end, scale in FIXED.items():
        if name.endswith(end):
            return scale
    if ".codec_embedding." in name:
        return 0.0, 0.25
    gain = next((gain for part, gain in GAINS.items() if part in name), 1.0)
    if name.startswith(UNTOUCHED[0]) and name.endswith(WRITERS):
        gain /= sqrt(max(1.0, layers / SHALLOW_LAYERS))
    return 0.0, gain / sqrt(_inputs(name, shape))


def _inputs(name: str, shape: Shape) -> int:
    """How many values one output value is a sum of."""
    if ".upsample." in name and name.endswith(".0.conv.weight"):
        return shape[0]  # transposed, kernel = stride
    if ".block.1.conv.weight" in name and name.startswith("decoder."):
        return shape[0] * 2  # transposed, kernel = 2 strides
    return prod(shape[1:])
