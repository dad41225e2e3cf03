from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vivavoce.engines.qwen3.catalog import MODELS, PublishedModel
from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.tensor_shapes import codec_shapes, model_shapes
from vivavoce.errors import ModelFileError
from vivavoce.testing.published_config import codec_config, model_config

COPIES = {"0.6B": "config_0.6b_customvoice.json", "1.7B": "config_1.7b_customvoice.json"}
MANIFESTS = {
    "Qwen3-TTS-12Hz-0.6B-Base": "keys_base_06",
    "Qwen3-TTS-12Hz-0.6B-CustomVoice": "keys_custom_voice_06",
    "Qwen3-TTS-12Hz-1.7B-Base": "keys_base_17",
    "Qwen3-TTS-12Hz-1.7B-CustomVoice": "keys_custom_voice_17",
    "Qwen3-TTS-12Hz-1.7B-VoiceDesign": "keys_voice_design_17",
}


def _folder(files: Path, folder: Path, config: dict[str, Any]) -> Path:
    shutil.copytree(files, folder)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def _json(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return values


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in _json(path).items()}


@pytest.fixture
def folder(tokenizer_files: Path, qwen3_data: Path, tmp_path: Path) -> Path:
    """The small files of 1.7B-CustomVoice."""
    return _folder(tokenizer_files, tmp_path / "model", _json(qwen3_data / COPIES["1.7B"]))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_tensors_equal_the_manifest(
    model: PublishedModel, tokenizer_files: Path, qwen3_data: Path, tmp_path: Path
) -> None:
    folder = _folder(tokenizer_files, tmp_path / "model", model_config(model))
    manifest = _shapes(qwen3_data / "manifests" / f"{MANIFESTS[model.name]}.json")
    assert model_shapes(Qwen3Config.load(folder)) == manifest


def test_codec_tensors_equal_the_manifest(folder: Path, qwen3_data: Path) -> None:
    manifest = _shapes(qwen3_data / "manifests" / "keys_tok.json")
    assert codec_shapes(Qwen3Config.load(folder).codec) == manifest


@pytest.mark.parametrize("size", COPIES)
def test_made_configurations_agree_with_the_published(
    size: str, qwen3_data: Path, tokenizer_files: Path
) -> None:
    model = next(m for m in MODELS if m.size == size and m.kind == "custom_voice")
    assert _within(model_config(model), _json(qwen3_data / COPIES[size]))
    assert codec_config() == _json(tokenizer_files / "speech_tokenizer" / "config.json")


def _within(made: dict[str, Any], published: dict[str, Any]) -> bool:
    """Whether every key of ``made`` has the published value, at every depth."""
    return all(
        _within(value, published[key]) if isinstance(value, dict) else value == published[key]
        for key, value in made.items()
    )


def test_values_of_a_real_configuration(folder: Path) -> None:
    config = Qwen3Config.load(folder)
    assert (config.kind, config.size, config.speaker_encoder) == ("custom_voice", "1b7", None)
    assert config.talker.has_projection
    assert (config.talker.hidden_size, config.talker.code_predictor.hidden_size) == (2048, 1024)
    assert config.talker.codec_eos_token_id == 2150
    assert config.talker.spk_id["ryan"] == 3061
    assert config.talker.spk_is_dialect == {"eric": "sichuan_dialect", "dylan": "beijing_dialect"}
    assert config.generation.max_new_tokens == 8192
    assert config.codec.samples_per_frame == 1920
    assert config.codec.encoder.downsample_stride == 2


FILES = ("config.json", "generation_config.json", "speech_tokenizer/config.json")


def _at(values: dict[str, Any], place: str) -> dict[str, Any]:
    for part in filter(None, place.split(".")):
        values = values[part]
    return values


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("config.json", "tts_model_size"),
        ("config.json", "tts_pad_token_id"),
        ("config.json", "talker_config"),
        ("config.json", "talker_config.num_code_groups"),
        ("config.json", "talker_config.text_vocab_size"),
        ("config.json", "talker_config.codec_eos_token_id"),
        ("config.json", "talker_config.spk_is_dialect"),
        ("config.json", "talker_config.head_dim"),
        ("config.json", "talker_config.rope_theta"),
        ("config.json", "talker_config.code_predictor_config.num_hidden_layers"),
        ("config.json", "talker_config.code_predictor_config.vocab_size"),
        ("generation_config.json", "subtalker_top_k"),
        ("generation_config.json", "repetition_penalty"),
        ("speech_tokenizer/config.json", "decode_upsample_rate"),
        ("speech_tokenizer/config.json", "decoder_config.codebook_dim"),
        ("speech_tokenizer/config.json", "decoder_config.head_dim"),
        ("speech_tokenizer/config.json", "decoder_config.upsample_rates"),
        ("speech_tokenizer/config.json", "encoder_config._frame_rate"),
        ("speech_tokenizer/config.json", "encoder_config.compress"),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "of another type"])
def test_a_bad_key_is_named(folder: Path, file: str, key: str, damage: str) -> None:
    values = _json(folder / file)
    place, _, last = key.rpartition(".")
    if damage == "missing":
        del _at(values, place)[last]
    else:
        _at(values, place)[last] = "twelve" if last != "tts_model_size" else 12
    (folder / file).write_text(json.dumps(values), "utf-8")
    with pytest.raises(ModelFileError) as caught:
        Qwen3Config.load(folder)
    assert str(folder / file) in caught.value.message
    assert f"'{key}'" in caught.value.message


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("config.json", "model_type", "qwen3"),
        ("config.json", "tokenizer_type", "qwen3_tts_tokenizer_25hz"),
        ("config.json", "tts_model_type", "singing"),
        ("config.json", "talker_config.hidden_act", "gelu"),
        ("config.json", "talker_config.attention_bias", True),
        ("config.json", "talker_config.num_hidden_layers", True),
        ("config.json", "talker_config.num_hidden_layers", 0),
        ("config.json", "talker_config.num_attention_heads", 9),
        ("config.json", "talker_config.rope_scaling", {"rope_type": "yarn", "factor": 4}),
        ("config.json", "talker_config.codec_eos_token_id", 4198),
        ("config.json", "talker_config.spk_id", {"ryan": 3072}),
        ("config.json", "talker_config.spk_id", {"ryan": "3061"}),
        ("config.json", "talker_config.spk_is_dialect", {"eric": "klingon"}),
        ("config.json", "talker_config.vocab_size", 4096),
        ("config.json", "talker_config.num_code_groups", 32),
        ("config.json", "talker_config.code_predictor_config.vocab_size", 4096),
        ("speech_tokenizer/config.json", "model_type", "mimi"),
        ("speech_tokenizer/config.json", "decode_upsample_rate", 960),
        ("speech_tokenizer/config.json", "encode_downsample_rate", 960),
        ("speech_tokenizer/config.json", "encoder_config.num_residual_layers", 2),
        ("speech_tokenizer/config.json", "encoder_config._frame_rate", 0),
        ("speech_tokenizer/config.json", "decoder_config.num_quantizers", 8),
    ],
)
def test_a_foreign_value_is_refused(folder: Path, file: str, key: str, value: Any) -> None:
    values = _json(folder / file)
    place, _, last = key.rpartition(".")
    _at(values, place)[last] = value
    (folder / file).write_text(json.dumps(values), "utf-8")
    with pytest.raises(ModelFileError) as caught:
        Qwen3Config.load(folder)
    assert file in caught.value.message
    assert last in caught.value.message


@pytest.mark.parametrize("text", ["", "[1]", "{", "\x00\x01", None])
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named(folder: Path, file: str, text: str | None) -> None:
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text, "utf-8")
    with pytest.raises(ModelFileError) as caught:
        Qwen3Config.load(folder)
    assert str(folder / file) in caught.value.message


def test_a_base_model_needs_its_speaker_encoder(tokenizer_files: Path, tmp_path: Path) -> None:
    base = next(model for model in MODELS if model.kind == "base")
    config = model_config(base)
    del config["speaker_encoder_config"]
    folder = _folder(tokenizer_files, tmp_path / "model", config)
    with pytest.raises(ModelFileError, match="speaker_encoder_config"):
        Qwen3Config.load(folder)


def test_a_fine_tuned_speaker(folder: Path) -> None:
    values = _json(folder / "config.json")
    values["talker_config"] |= {"spk_id": {"Maria": 3000}, "spk_is_dialect": {"Maria": False}}
    (folder / "config.json").write_text(json.dumps(values), "utf-8")
    talker = Qwen3Config.load(folder).talker
    assert (talker.spk_id, talker.spk_is_dialect) == ({"maria": 3000}, {})
