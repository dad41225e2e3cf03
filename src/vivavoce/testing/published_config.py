"""The small files a published model folder has, made from the ones in ``published/``.

Those are the Qwen team's data (Apache-2.0): config.json of 0.6B-CustomVoice without the keys
that only the transformers library reads, generation_config.json and the codec's files as they
are. The other models differ from the first as written here. Of the tokenizer's files merges.txt is
kept compressed; vocab.json follows from it: a token for every byte, then one for every merge, in
their order.
"""

from __future__ import annotations

import json
import lzma
from importlib.resources import files
from pathlib import Path
from typing import Any

from vivavoce.engines.qwen3.catalog import PublishedModel

DIALECTS = ("beijing_dialect", "sichuan_dialect")
SMALL_FILES = {
    "generation_config.json": "generation_config.json",
    "preprocessor_config.json": "preprocessor_config.json",
    "speech_tokenizer/configuration.json": "speech_tokenizer_configuration.json",
    "speech_tokenizer/preprocessor_config.json": "speech_tokenizer_preprocessor_config.json",
}
"""Where a file goes in a model folder → its name here; these are the same for every model."""

SIZES = {
    "0.6B": {"hidden_size": 1024, "intermediate_size": 3072},
    "1.7B": {"hidden_size": 2048, "intermediate_size": 6144},
}
TINY_SIZES = {"0.6B": {"hidden_size": 48}, "1.7B": {"hidden_size": 64}}
TINY_STACK = {
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
TINY_TALKER = TINY_STACK | {"num_hidden_layers": 3, "text_hidden_size": 32}
TINY_PREDICTOR = TINY_STACK | {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "layer_types": ["full_attention"] * 2,
}
TINY_MROPE_SECTION = [4, 2, 2]
TINY_SPEAKER = {
    "enc_channels": [32, 32, 32, 32, 96],
    "enc_attention_channels": 16,
    "enc_se_channels": 16,
}
TINY_DECODER = {
    "codebook_dim": 16,
    "latent_dim": 32,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "sliding_window": 12,
    "decoder_dim": 64,
    "vector_quantization_hidden_dimension": 16,
}
TINY_ENCODER = {
    "num_filters": 4,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "upsample_groups": 32,
    "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8,
}


def model_config(model: PublishedModel, *, tiny: bool = False) -> dict[str, Any]:
    """config.json of ``model``; tiny ones keep the topology, the vocabularies and all ids."""
    config = _json("config.json")
    talker = config["talker_config"]
    config["tts_model_size"] = {"0.6B": "0b6", "1.7B": "1b7"}[model.size]
    config["tts_model_type"] = model.kind
    talker |= SIZES[model.size]
    if tiny:
        talker |= TINY_TALKER | TINY_SIZES[model.size]
        talker["rope_scaling"]["mrope_section"] = TINY_MROPE_SECTION
        talker["code_predictor_config"] |= TINY_PREDICTOR
    if model.kind != "custom_voice":
        talker["spk_id"], talker["spk_is_dialect"] = {}, {}
        for dialect in DIALECTS:
            del talker["codec_language_id"][dialect]
    if model.kind == "base":
        speaker = {"enc_dim": talker["hidden_size"], "sample_rate": 24_000}
        config["speaker_encoder_config"] = speaker | (TINY_SPEAKER if tiny else {})
    return config


def codec_config(*, tiny: bool = False) -> dict[str, Any]:
    """speech_tokenizer/config.json."""
    config = _json("speech_tokenizer_config.json")
    if tiny:
        config["decoder_config"] |= TINY_DECODER
        config["encoder_config"] |= TINY_ENCODER
    return config


def small_file(name: str) -> str:
    """The text of one of ``SMALL_FILES``."""
    return _text(SMALL_FILES[name])


def _json(name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(_text(name))
    return values


def _text(name: str) -> str:
    return (files(__package__) / "published" / name).read_text("utf-8")


PRINTABLE = (range(0x21, 0x7F), range(0xA1, 0xAD), range(0xAE, 0x100))
"""Bytes that stand for themselves in the byte-level alphabet; others stand from U+0100 on."""


def write_tokenizer(folder: Path) -> None:
    """Write vocab.json, merges.txt and tokenizer_config.json. Raises OSError."""
    published = files(__package__) / "published"
    merges = lzma.decompress((published / "merges.txt.xz").read_bytes())
    (folder / "merges.txt").write_bytes(merges)
    config = (published / "tokenizer_config.json").read_bytes()
    (folder / "tokenizer_config.json").write_bytes(config)
    tokens = [*_bytes(), *("".join(pair) for pair in _pairs(merges.decode("utf-8")))]
    vocab = {token: number for number, token in enumerate(tokens)}
    compact = json.dumps(vocab, ensure_ascii=False, separators=(",", ":"))
    (folder / "vocab.json").write_text(compact, "utf-8")


def _bytes() -> list[str]:
    """The letters of all bytes: those that stand for themselves first."""
    plain = [chr(each) for part in PRINTABLE for each in part]
    return [*plain, *(chr(0x100 + number) for number in range(256 - len(plain)))]


def _pairs(merges: str) -> list[list[str]]:
    lines = (line for line in merges.split("\n") if line and not line.startswith("#version"))
    return [line.split(" ") for line in lines]
