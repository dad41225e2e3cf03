"""A codec and a speaker encoder with the published topology and few, random weights.

A frame has 96 samples here; values depend on nothing but names and shapes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from vivavoce.engines.qwen3.checkpoint import CODEC_WEIGHTS, WEIGHTS, Checkpoint
from vivavoce.engines.qwen3.codec_config import CodecConfig
from vivavoce.engines.qwen3.config import SpeakerEncoderConfig
from vivavoce.engines.qwen3.tensor_shapes import Shape, _speaker_encoder, codec_shapes
from vivavoce.runtime.safetensors_file import SafetensorsFile

PUBLISHED = Path(__file__).parents[3] / "data/qwen3/checkpoint_files/speech_tokenizer/config.json"
STACK = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
DECODER = STACK | {
    "codebook_size": 32,
    "codebook_dim": 16,
    "latent_dim": 24,
    "hidden_size": 20,
    "intermediate_size": 24,
    "sliding_window": 7,
    "decoder_dim": 32,
    "upsample_rates": [3, 2, 2, 2],
}
ENCODER = STACK | {
    "codebook_size": 32,
    "codebook_dim": 12,
    "vector_quantization_hidden_dimension": 12,
    "num_filters": 4,
    "upsampling_ratios": [4, 3, 2, 2],
    "_frame_rate": 24_000 / 96,
    "hidden_size": 20,
    "intermediate_size": 24,
    "num_quantizers": 18,
    "upsample_groups": 20,
}

SPEAKER = SpeakerEncoderConfig(
    enc_dim=10,
    sample_rate=24_000,
    enc_channels=(16, 16, 16, 16, 48),
    enc_attention_channels=8,
    enc_res2net_scale=4,
    enc_se_channels=8,
)
SAMPLES_PER_FRAME = 96
GROUPS, SIZE = 16, 32


def small_checkpoint(folder: Path) -> Checkpoint:
    """Written into ``folder`` in the published layout (without a talker), and opened."""
    codec = folder / "speech_tokenizer"
    codec.mkdir(parents=True)
    config: dict[str, Any] = json.loads(PUBLISHED.read_text("utf-8"))
    config["decoder_config"] |= DECODER
    config["encoder_config"] |= ENCODER
    config |= {"decode_upsample_rate": SAMPLES_PER_FRAME}
    config |= {"encode_downsample_rate": SAMPLES_PER_FRAME}
    (codec / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "speaker.json").write_text(json.dumps(asdict(SPEAKER)), "utf-8")
    loaded = CodecConfig.load(codec)
    save_file(random_tensors(codec_shapes(loaded)), folder / CODEC_WEIGHTS)
    speaker = random_tensors(dict(_speaker_encoder("speaker_encoder.", SPEAKER)))
    save_file(speaker, folder / WEIGHTS)
    return Checkpoint(
        folder,
        SimpleNamespace(codec=loaded, speaker_encoder=SPEAKER),  # type: ignore[arg-type]
        SafetensorsFile.open(folder / WEIGHTS),
        SafetensorsFile.open(folder / CODEC_WEIGHTS),
    )


def random_tensors(shapes: Mapping[str, Shape]) -> dict[str, torch.Tensor]:
    """Values between limits that keep every part of the model audible."""
    return {name: torch.from_numpy(_values(name, shape)) for name, shape in shapes.items()}


def _values(name: str, shape: Shape) -> NDArray[np.float32]:
    draw = uniform(name, shape)
    if name.endswith("cluster_usage"):
        values = 1 + 0.9 * draw
    elif name.endswith(("embedding_sum", "embed_sum")):
        values = draw
    elif "norm.weight" in name or name.endswith(".gamma") or "scale" in name:
        values = 0.7 + 0.3 * draw
    elif len(shape) == 1:
        values = 0.3 * draw
    else:
        gain = 0.05 if name == "decoder.decoder.6.conv.weight" else 1.0
        values = draw * gain * (3 / prod(shape[1:])) ** 0.5
    return values.astype(np.float32)


def uniform(name: str, shape: Shape) -> NDArray[np.float64]:
    """Reproducible noise in [-1, 1) for a name."""
    rng = np.random.Generator(np.random.PCG64(crc32(name.encode())))
    return rng.random(shape) * 2 - 1


def some_codes(name: str, *shape: int) -> torch.Tensor:
    """Random codes [*shape, 16]."""
    noise = uniform(name, (*shape, GROUPS))
    return torch.from_numpy(((noise + 1) / 2 * SIZE).astype(np.int64))


def some_sound(name: str, length: int) -> torch.Tensor:
    """A gliding tone in noise, float32 [length]."""
    at = np.arange(length)
    tone = np.sin(at * (0.03 + at / length * 0.1))
    return torch.from_numpy((0.4 * tone + 0.2 * uniform(name, (length,))).astype(np.float32))
