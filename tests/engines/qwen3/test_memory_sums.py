"""What the models take in a GPU's memory, by arithmetic over modules without memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import torch

from vivavoce.engines.layers import int8_cpu
from vivavoce.engines.layers.linear import quantised_bytes
from vivavoce.engines.layers.weights import Precision
from vivavoce.engines.qwen3.catalogue import published
from vivavoce.engines.qwen3.checkpoint import open_checkpoint
from vivavoce.engines.qwen3.codec.decoder import CodecDecoder
from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.model import load_talker
from vivavoce.engines.qwen3.published_config import (
    SMALL_FILES,
    codec_config,
    model_config,
    small_file,
)
from vivavoce.engines.qwen3.quantising import Quantising, weights_bytes
from vivavoce.engines.qwen3.rows import RowState
from vivavoce.engines.qwen3.talker import Talker

PAGE = Path(__file__).parents[3] / "docs" / "cards.md"
POSITIONS = 1024
MB = 1_000_000
SIZES = {"0.6B": "Qwen3-TTS-12Hz-0.6B-CustomVoice", "1.7B": "Qwen3-TTS-12Hz-1.7B-CustomVoice"}
CARD_GB_S = 272
"""Nominal memory bandwidth of an RTX 4060."""


@dataclass(frozen=True)
class Sum:
    """Bytes, as PyTorch allocates them on CUDA: bfloat16, the codec in float32."""

    weights: int
    codec: int
    call: int
    frame: int

    @property
    def total(self) -> int:
        return self.weights + self.codec + self.call


def config_of(size: str, folder: Path) -> Qwen3Config:
    (folder / "speech_tokenizer").mkdir(exist_ok=True)
    for name in SMALL_FILES:
        (folder / name).write_text(small_file(name))
    (folder / "config.json").write_text(json.dumps(model_config(published(SIZES[size]))))
    (folder / "speech_tokenizer" / "config.json").write_text(json.dumps(codec_config()))
    return Qwen3Config.load(folder)


def on_meta(config: Qwen3Config) -> Talker:
    with torch.device("meta"):
        return Talker(config.talker)


def quantising(precision: Precision) -> Quantising:
    return Quantising(precision, torch.bfloat16, torch.device("meta"))


def sum_of(size: str, precision: Precision, folder: Path) -> Sum:
    config = config_of(size, folder)
    talker, how = on_meta(config), quantising(precision)
    with torch.device("meta"):
        codec = CodecDecoder(config.codec.decoder)
    row = RowState.build(
        config.talker, 1, POSITIONS, torch.zeros((), dtype=torch.bfloat16, device="meta")
    )
    return Sum(
        weights_bytes(talker, how),
        sum(each.nbytes for each in (*codec.parameters(), *codec.buffers())),
        tensor_bytes(row) + codec.row_bytes(),
        frame_bytes(talker, how),
    )


def tensor_bytes(held: Any) -> int:
    """Of a dataclass of tensors and of others like it."""
    total = 0
    for part in fields(held):
        value = getattr(held, part.name)
        total += value.nbytes if isinstance(value, torch.Tensor) else tensor_bytes(value)
    return total


def frame_bytes(talker: Talker, how: Quantising) -> int:
    """What a frame of one row reads: the predictor's layers fifteen times, each head once."""
    passes = talker.config.code_predictor.num_code_groups - 1
    once = ("model.layers.", "codec_head.", "text_projection.", "code_predictor.lm_head.")
    often = ("code_predictor.model.layers.", "code_predictor.small_to_mtp_projection.")
    return sum(weights_bytes(talker, how, part) for part in once) + passes * sum(
        weights_bytes(talker, how, part) for part in often
    )


@pytest.mark.parametrize("name", ["0.6B-CustomVoice", "1.7B-CustomVoice"])
@pytest.mark.parametrize("precision", [Precision.NONE, Precision.INT8, Precision.FP8])
def test_the_sum_is_what_is_loaded(
    name: str,
    precision: Precision,
    tiny_checkpoint: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(int8_cpu, "available", lambda: False)  # as on a GPU
    checkpoint = open_checkpoint(tiny_checkpoint(name))
    loaded = load_talker(checkpoint, torch.bfloat16, torch.device("cpu"), precision)
    held = quantised_bytes(loaded) + sum(each.nbytes for each in loaded.state_dict().values())
    assert weights_bytes(on_meta(checkpoint.config), quantising(precision)) == held


@pytest.mark.parametrize(("size", "most_gb"), [("0.6B", 1.6), ("1.7B", 3.2)])
def test_int8_with_one_call_fits(size: str, most_gb: float, tmp_path: Path) -> None:
    assert sum_of(size, Precision.INT8, tmp_path).total <= most_gb * 1e9


def test_the_page_says_so(tmp_path: Path) -> None:
    """Rows of both tables of docs/cards.md, as they follow from the configurations."""
    page = PAGE.read_text("utf-8")
    for size in SIZES:
        for precision, word in ((Precision.INT8, "int8"), (Precision.NONE, "bf16")):
            found = sum_of(size, precision, tmp_path)
            parts = (found.weights, found.codec, found.call, found.total)
            assert " | ".join([f"| {size} {word}", *map(megabytes, parts)]) + " |" in page
            floor_ms = found.frame / CARD_GB_S / 1e6
            row = f"| {size} {word} | {found.frame / 1e9:.2f} GB | {floor_ms:.1f} | "
            assert row + f"{80 / floor_ms:.1f} |" in page


def megabytes(size_bytes: int) -> str:
    return f"{round(size_bytes / MB):,}"
