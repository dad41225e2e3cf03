"""Checkpoints with random weights in the published layout, for tests, benchmarks and checks.

They load wherever a published one does, the published classes included, and say nothing anyone
would understand. Weights are written tensor by tensor in blocks, so that memory stays small at
true size. Scales follow each layer's number of inputs, so that activations stay finite and the
sound is neither silent nor clipped.

A random model has no reason to end. The end's row of the codec head is therefore drawn
``eos_gain`` times as large as the others: now and then its logit beats them all. How long speech
gets is chance, around the same length whatever the text says; 0 makes speech that never ends.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

import vivavoce
from vivavoce.engines.qwen3.catalogue import published
from vivavoce.engines.qwen3.checkpoint import CODEC_WEIGHTS, TOKENIZER_FILES, WEIGHTS
from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.published_config import (
    SMALL_FILES,
    codec_config,
    model_config,
    small_file,
)
from vivavoce.engines.qwen3.safetensors_file import writing
from vivavoce.engines.qwen3.tensor_shapes import Shape, codec_shapes, model_shapes
from vivavoce.errors import InputError, ModelFileError

Floats: TypeAlias = NDArray[np.float32]

BLOCK_VALUES = 1 << 22
CHECKOUT_TOKENIZER = Path("tests/data/qwen3/checkpoint_files")
EOS_GAIN = 2.0
HEAD_GAIN = 3.0
"""Logits of the heads are spread this far, so that sampling prefers some codes clearly."""

EOS_ROW = "talker.codec_head.weight"


def make_random_checkpoint(
    name: str,
    folder: Path | str,
    *,
    tiny: bool = False,
    seed: int = 0,
    tokenizer: Path | str | None = None,
    eos_gain: float = EOS_GAIN,
) -> Path:
    """Write a random checkpoint of the published model ``name`` into ``folder`` (new or empty).

    ``tokenizer`` is a folder with vocab.json, merges.txt and tokenizer_config.json; without it
    they come from this project's test data, which only a checkout has. ``tiny`` keeps topology
    and vocabularies and makes everything else small (under 30 MB). The same arguments give the
    same bytes with the same numpy.

    Returns the folder. Raises UnknownModel, InputError for a folder in use, ModelFileError where
    the tokenizer is missing or the folder cannot be written.
    """
    model, folder = published(name), Path(folder)
    source = Path(tokenizer) if tokenizer is not None else checkout_tokenizer()
    absent = [file for file in TOKENIZER_FILES if not (source / file).is_file()]
    if absent:
        raise ModelFileError(f"{source} is no whole tokenizer: {', '.join(absent)} missing.")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty.", param="folder")
        (folder / "speech_tokenizer").mkdir(parents=True, exist_ok=True)
        for file in TOKENIZER_FILES:
            shutil.copyfile(source / file, folder / file)
        for file in SMALL_FILES:
            (folder / file).write_text(small_file(file), "utf-8")
        _write_json(folder / "config.json", model_config(model, tiny=tiny))
        _write_json(folder / "speech_tokenizer" / "config.json", codec_config(tiny=tiny))
        config = Qwen3Config.load(folder)
        _write_weights(folder / CODEC_WEIGHTS, codec_shapes(config.codec), "F32", _Draw(seed))
        draw = _Draw(seed, {EOS_ROW: (config.talker.codec_eos_token_id, eos_gain)})
        _write_weights(folder / WEIGHTS, model_shapes(config), "BF16", draw)
    except OSError as error:
        raise ModelFileError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def checkout_tokenizer() -> Path:
    """The tokenizer files in this project's test data. Raises ModelFileError outside a checkout."""
    folder = Path(vivavoce.__file__).parents[2] / CHECKOUT_TOKENIZER
    if not folder.is_dir():
        raise ModelFileError(
            "Only a checkout of vivavoce brings tokenizer files; name a folder that holds "
            f"{', '.join(TOKENIZER_FILES)} with --tokenizer."
        )
    return folder


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def _write_weights(path: Path, shapes: dict[str, Shape], dtype: str, draw: _Draw) -> None:
    with writing(path, {name: (dtype, shape) for name, shape in shapes.items()}) as file:
        for name, shape in shapes.items():
            for block in draw.blocks(name, shape):
                _write_block(file, block, dtype)


def _write_block(file: BinaryIO, block: Floats, dtype: str) -> None:
    file.write((to_bfloat16(block) if dtype == "BF16" else block).tobytes())


def to_bfloat16(values: Floats) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16 (ties to even) of finite values."""
    bits = values.view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    return (rounded >> np.uint32(16)).astype(np.uint16)


class _Draw:
    """Random values of every tensor by its name; the order of asking does not matter."""

    def __init__(self, seed: int, rows: dict[str, tuple[int, float]] | None = None) -> None:
        self._seed = seed
        self._rows = rows or {}

    def blocks(self, name: str, shape: Shape) -> Iterator[Floats]:
        """The values of one tensor, whole rows at a time, little-endian."""
        rng = np.random.Generator(np.random.SFC64([self._seed, crc32(name.encode())]))
        mean, spread = _scale(name, shape)
        row_values = int(np.prod(shape[1:], dtype=np.int64))
        step = max(1, BLOCK_VALUES // row_values)
        for first in range(0, shape[0], step):
            size = (min(step, shape[0] - first), *shape[1:])
            block = rng.standard_normal(size, dtype=np.float32)
            block *= np.float32(spread)
            block += np.float32(mean)
            if name.endswith("cluster_usage"):
                np.abs(block, out=block)
                block += np.float32(0.5)
            row, gain = self._rows.get(name, (-1, 1.0))
            if first <= row < first + size[0]:
                block[row - first] *= np.float32(gain)
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


def _scale(name: str, shape: Shape) -> tuple[float, float]:
    """Mean and standard deviation of a tensor's values."""
    for end, scale in FIXED.items():
        if name.endswith(end):
            return scale
    if ".codec_embedding." in name:
        return 0.0, 0.25
    gain = next((gain for part, gain in GAINS.items() if part in name), 1.0)
    return 0.0, gain / float(np.sqrt(_inputs(name, shape)))


def _inputs(name: str, shape: Shape) -> int:
    """How many values one output value is a sum of."""
    if ".upsample." in name and name.endswith(".0.conv.weight"):
        return shape[0]  # transposed, kernel = stride
    if ".block.1.conv.weight" in name and name.startswith("decoder."):
        return shape[0] * 2  # transposed, kernel = 2 strides
    return int(np.prod(shape[1:], dtype=np.int64))
