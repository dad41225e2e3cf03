from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vivavoce.engines.qwen3.catalog import MODELS, PublishedModel
from vivavoce.engines.qwen3.checkpoint import open_checkpoint
from vivavoce.errors import InputError, ModelFileError, UnknownModel
from vivavoce.testing.random_qwen3 import make_random_checkpoint

Make = Callable[[str], Path]
NAME = "Qwen3-TTS-12Hz-0.6B-CustomVoice"

OFFICIAL = """
import importlib.machinery, json, sys, types
for name in ("torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi",
             "onnxruntime", "sox"):
    try:
        __import__(name)
    except Exception:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
import torch
from qwen_tts import Qwen3TTSModel
loaded = Qwen3TTSModel.from_pretrained(sys.argv[1], dtype=torch.float32)
model = loaded.model
talker = {name: float(t.double().sum()) for name, t in model.state_dict().items()}
codec = {n: float(t.double().sum()) for n, t in model.speech_tokenizer.model.state_dict().items()}
print(json.dumps({"model": talker, "codec": codec}))
"""


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_model_opens(model: PublishedModel, tiny_checkpoint: Make) -> None:
    folder = tiny_checkpoint(model.name.removeprefix("Qwen3-TTS-12Hz-"))
    config = open_checkpoint(folder).config
    assert config.kind == model.kind
    assert config.talker.has_projection == (model.size == "1.7B")
    assert (config.speaker_encoder is not None) == (model.kind == "base")
    assert bool(config.talker.spk_id) == (model.kind == "custom_voice")
    assert (config.talker.vocab_size, config.talker.text_vocab_size) == (3072, 151_936)
    assert config.talker.num_code_groups == 16
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 30e6


def test_the_whole_layout_is_there(tiny_checkpoint: Make) -> None:
    folder = tiny_checkpoint("0.6B-CustomVoice")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    codec = ("config.json", "configuration.json", "preprocessor_config.json", "model.safetensors")
    assert files == {
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "tokenizer_config.json",
        "vocab.json",
        "merges.txt",
        "model.safetensors",
        *(f"speech_tokenizer/{name}" for name in codec),
    }


def test_types_and_values_are_fit_to_compute_with(tiny_checkpoint: Make) -> None:
    folder = tiny_checkpoint("1.7B-Base")
    weights = load_file(folder / "model.safetensors")
    codec = load_file(folder / "speech_tokenizer" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in codec.values()} == {torch.float32}
    for name, tensor in (weights | codec).items():
        assert tensor.isfinite().all(), name
        assert tensor.any(), name
    for name, tensor in codec.items():
        if name.endswith("cluster_usage"):
            assert (tensor > 0).all()


def test_the_seed_alone_decides(tmp_path: Path, tiny_checkpoint: Make) -> None:
    again = make_random_checkpoint(f"Qwen/{NAME}", tmp_path / "again", tiny=True)
    other = make_random_checkpoint(NAME, tmp_path / "other", tiny=True, seed=1)
    first = (tiny_checkpoint("0.6B-CustomVoice") / "model.safetensors").read_bytes()
    assert (again / "model.safetensors").read_bytes() == first
    assert (other / "model.safetensors").read_bytes() != first


def test_the_end_can_be_left_out(tmp_path: Path, tiny_checkpoint: Make) -> None:
    endless = make_random_checkpoint(NAME, tmp_path / "endless", tiny=True, eos_gain=0.0)
    head = load_file(endless / "model.safetensors")["talker.codec_head.weight"]
    usual = load_file(tiny_checkpoint("0.6B-CustomVoice") / "model.safetensors")
    assert not head[2150].any()
    assert usual["talker.codec_head.weight"][2150].any()


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"0\.6B-CustomVoice"):
        make_random_checkpoint("Qwen3-TTS-12Hz-0.6B-VoiceDesign", tmp_path / "a", tiny=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "precious.txt").touch()
    with pytest.raises(InputError, match="not empty"):
        make_random_checkpoint(NAME, tmp_path / "b", tiny=True)
    with pytest.raises(ModelFileError, match=r"vocab\.json, merges\.txt"):
        make_random_checkpoint(NAME, tmp_path / "c", tiny=True, tokenizer=tmp_path)
    (tmp_path / "d").touch()
    with pytest.raises(ModelFileError, match="cannot be written"):
        make_random_checkpoint(NAME, tmp_path / "d", tiny=True)


def test_the_tokenizer_is_the_published_one(tiny_checkpoint: Make, tokenizer_files: Path) -> None:
    folder = tiny_checkpoint("0.6B-CustomVoice")
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (folder / file).read_bytes() == (tokenizer_files / file).read_bytes()


def test_another_tokenizer(tmp_path: Path, tokenizer_files: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(tokenizer_files, own)
    with (own / "merges.txt").open("a") as file:
        file.write("\n")
    folder = make_random_checkpoint(NAME, tmp_path / "made", tiny=True, tokenizer=own)
    assert (folder / "merges.txt").read_bytes() == (own / "merges.txt").read_bytes()


LIGHT = """
import sys
from vivavoce.testing.random_qwen3 import make_random_checkpoint
from vivavoce.engines.qwen3.checkpoint import open_checkpoint
make_random_checkpoint(sys.argv[1], sys.argv[2], tiny=True)
open_checkpoint(sys.argv[2])
print("torch" in sys.modules)
"""


def test_making_and_checking_needs_no_torch(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LIGHT, NAME, str(tmp_path / "a")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "False"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["1.7B-Base", "0.6B-CustomVoice", "1.7B-VoiceDesign"])
def test_the_published_classes_load_it(tiny_checkpoint: Make, name: str) -> None:
    interpreter = os.environ.get("QWEN_TTS_PYTHON")
    if not interpreter:
        pytest.skip("QWEN_TTS_PYTHON names no interpreter that has qwen-tts")
    folder = tiny_checkpoint(name)
    ran = subprocess.run(
        [interpreter, "-W", "ignore", "-c", OFFICIAL, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert ran.returncode == 0, ran.stderr[-2_000:]
    assert "newly initialized" not in ran.stderr
    sums = json.loads(ran.stdout.splitlines()[-1])
    for file, part in (
        ("model.safetensors", "model"),
        ("speech_tokenizer/model.safetensors", "codec"),
    ):
        own = {name: float(t.double().sum()) for name, t in load_file(folder / file).items()}
        assert sums[part] == pytest.approx(own, abs=1e-6), part
