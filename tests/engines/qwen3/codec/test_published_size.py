"""The modules at the published size, without weights: names, shapes and memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from vivavoce.engines.qwen3.codec.decoder import CodecDecoder
from vivavoce.engines.qwen3.codec.encoder import CodecEncoder
from vivavoce.engines.qwen3.codec_config import CodecConfig
from vivavoce.engines.qwen3.config import SpeakerEncoderConfig
from vivavoce.engines.qwen3.speaker import SpeakerEncoder

DATA = Path(__file__).parents[3] / "data" / "qwen3"


@pytest.fixture(scope="module")
def config() -> CodecConfig:
    return CodecConfig.load(DATA / "checkpoint_files" / "speech_tokenizer")


@pytest.fixture(scope="module")
def decoder(config: CodecConfig) -> CodecDecoder:
    with torch.device("meta"):
        return CodecDecoder(config.decoder)


def manifest(name: str, prefix: str) -> dict[str, list[int]]:
    """Shapes by what stands after ``prefix`` in the names of a published file."""
    shapes = json.loads((DATA / "manifests" / f"keys_{name}.json").read_text())
    return {key.removeprefix(prefix): shapes[key] for key in shapes if key.startswith(prefix)}


def own(module: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def test_the_decoder_has_the_published_names(decoder: CodecDecoder) -> None:
    published = manifest("tok", "decoder.")
    expected = {name: published[name] for name in published if "quantizer." not in name}
    assert own(decoder) == expected


def test_the_encoder_has_the_published_names(config: CodecConfig) -> None:
    with torch.device("meta"):
        encoder = CodecEncoder(config)
    published = manifest("tok", "encoder.")
    expected = {
        name: shape
        for name, shape in published.items()
        if "quantizer." not in name or name.endswith("input_proj.weight")
    }
    assert own(encoder) == expected
    assert encoder.piece % encoder.samples_per_frame == 0


@pytest.mark.parametrize(("size", "width"), [("06", 1024), ("17", 2048)])
def test_the_speaker_encoder_has_the_published_names(size: str, width: int) -> None:
    with torch.device("meta"):
        encoder = SpeakerEncoder(SpeakerEncoderConfig(enc_dim=width, sample_rate=24_000))
    assert own(encoder) == manifest(f"base_{size}", "speaker_encoder.")


def test_a_row_of_state_takes_under_six_mebibytes(decoder: CodecDecoder) -> None:
    ring = 8 * 2 * 1024 * (71 + 12)  # layers, keys and values, 16 heads of 64, slots
    convolutions = 512 * 2 + 1024 * (6 + 6 + 6) + 768 * 78 + 384 * 78 + 192 * 78 + 96 * 78 + 96 * 6
    overlaps = 768 * 8 + 384 * 5 + 192 * 4 + 96 * 3
    expected = 4 * (ring + convolutions + overlaps) + 8 + 1
    assert decoder.row_bytes(torch.float32) == expected
    assert expected < 6 * 2**20


def test_the_convolutions_hear_ten_frames_back(decoder: CodecDecoder) -> None:
    # From the last layer to the first, in inputs of each: 6, then 78 and the neighbor of a
    # transposed convolution in four blocks, 6, and 6 after each doubling.
    needed = 6
    for rate in (3, 4, 5, 8):
        needed = -(-(needed + 78) // rate) + 1
    needed += 6
    for ratio in (2, 2):
        needed = -(-(needed + 6) // ratio)
    assert decoder.hearing_frames == needed == 10
