from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from runtime.hub_server import HubServer
from vivavoce.cli.models import models
from vivavoce.errors import InputError, ModelFileError, UnknownModel

NAME = "Qwen3-TTS-12Hz-0.6B-CustomVoice"
GGUF = "neuphonic/neutts-nano-q4-gguf"
VOICE = "en_GB-test-low"


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(models, list(arguments))


def _fails(error: type[Exception], said: str, *arguments: str) -> None:
    with pytest.raises(error, match=said):
        raise _run(*arguments).exception or AssertionError


def test_table() -> None:
    ran = _run()
    assert ran.exit_code == 0
    for shown in (NAME, "2.5 GB", "neuphonic/neutts-air", "torch backbone", "1.5 GB", "codec", "?"):
        assert shown in ran.output


def test_json() -> None:
    rows: list[dict[str, Any]] = json.loads(_run("--json").output)
    assert len(rows) == 5 + 18 + 4
    assert {row["folder"] for row in rows} == {None}
    assert {row["licence"] for row in rows} == {"Apache-2.0", "NeuTTS Open License 1.0"}
    assert {row["verified"] for row in rows} == {False}


def test_a_random_model_is_verified(tmp_path: Path) -> None:
    folder = str(tmp_path / "model")
    assert _run("random", NAME, folder, "--tiny", "--seed", "3").output.strip() == folder
    said = _run("verify", folder).output
    assert "custom_voice, size 0b6" in said
    assert "nothing published" in said


@pytest.mark.skipif(find_spec("torch") is None, reason="for want of torch")
def test_a_pytorch_backbone_and_a_checkpoint_are_verified(tmp_path: Path) -> None:
    from vivavoce.testing.random_lm import RandomLm, make_random_lm
    from vivavoce.testing.random_neucodec import make_random_codec

    make_random_lm(RandomLm("neutts-nano", True), tmp_path / "backbone")
    said = _run("verify", str(tmp_path / "backbone")).output
    assert "PyTorch backbone" in said and "as expected" in said
    make_random_codec(tmp_path / "codec" / "model.safetensors", tiny=True)
    assert "tensors of the decoder" in _run("verify", str(tmp_path / "codec")).output


@pytest.mark.skipif(find_spec("gguf") is None, reason="for want of gguf")
def test_random_parts_of_neutts_are_verified(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    assert _run("random", "neutts-nano", str(folder), "--tiny").exit_code == 0
    said = _run("verify", str(folder)).output
    for part in ("backbone.gguf: GGUF backbone", "codec.onnx: NeuCodec as a graph; it decodes"):
        assert part in said
    assert said.count("nothing published") == 2
    assert _run("verify", str(folder / "codec.onnx")).output.count("codec.onnx") == 2
    whole = (folder / "backbone.gguf").read_bytes()
    (folder / "backbone.gguf").write_bytes(whole[: len(whole) // 2])
    _fails(ModelFileError, "ends before its tensors do", "verify", str(folder / "backbone.gguf"))


def test_verify_names_what_is_wrong(tmp_path: Path) -> None:
    _fails(ModelFileError, r"merges\.txt", "verify", str(tmp_path))
    _fails(InputError, "no file or folder here, and no model's name", "verify", "nothing")
    _fails(ModelFileError, f"models download {GGUF}", "verify", GGUF)
    _fails(ModelFileError, f"models download {NAME}", "verify", NAME)


def test_download_puts_models_below_the_data_folder(hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.publish(GGUF, {"neutts-nano-Q4_0.gguf": b"no real one", "README.md": b"#"})
    folder = tmp_path / "data" / "models" / "neuphonic--neutts-nano-q4-gguf"
    for name in (GGUF, "neutts-nano-q4-gguf"):
        assert _run("download", name).output.splitlines()[-1] == str(folder)
    rows = {row["model"]: row for row in json.loads(_run("--json").output)}
    assert (rows[GGUF]["folder"], rows[GGUF]["verified"]) == (str(folder), True)
    if find_spec("gguf") is not None:
        _fails(ModelFileError, "neutts-nano-Q4_0.gguf", "verify", GGUF)


def test_a_qwen3_model_by_name(hub_server: HubServer) -> None:
    _fails(ModelFileError, f"no repository Qwen/{NAME}", "download", NAME)
    assert any("85e237c12c027371202489a0ec509ded67b5e4b5" in path for _, path in hub_server.asked)


def test_a_piper_voice_by_name(hub_server: HubServer, tmp_path: Path) -> None:
    at = f"en/en_GB/test/low/{VOICE}.onnx"
    hub_server.publish("rhasspy/piper-voices", {at: b"model", f"{at}.json": b"{}"})
    folder = tmp_path / "voices"
    folder.mkdir()
    said = _run("--set", f"piper.voices_dir={folder}", "download", VOICE).output
    assert said.splitlines()[-1] == str(folder / f"{VOICE}.onnx")


def test_an_unknown_model_names_all(hub_server: HubServer) -> None:
    _fails(UnknownModel, "neuphonic/neutts-air", "download", "nothing")
    assert hub_server.asked == []


def test_a_terminal_is_told_of_a_download_before_it_begins(
    hub_server: HubServer, tmp_path: Path
) -> None:
    """Whatever speaks says so, in a process without any set-up of logging."""
    at = f"en/en_GB/test/low/{VOICE}.onnx"
    hub_server.publish("rhasspy/piper-voices", {at: b"model", f"{at}.json": b"{}"})
    hub_server.refusals = {at: 1}
    folder = tmp_path / "voices"
    folder.mkdir()
    sets = (f"piper.voices_dir={folder}", "piper.download=true", f"default_voice={VOICE}")
    ran = subprocess.run(
        [sys.executable, "-m", "vivavoce.cli", "say", "Hello.", "-o", str(tmp_path / "hello.wav"),
         "--engine", "piper", *(word for each in sets for word in ("--set", each))],
        capture_output=True, text=True, check=False,
        env={name: text for name, text in os.environ.items() if name != "HF_HUB_OFFLINE"},
    )  # fmt: skip
    told, *_, failed = ran.stderr.splitlines()
    assert told.startswith(f"Downloading rhasspy/piper-voices from {hub_server.endpoint} (2 files")
    assert "7 bytes" in told
    assert failed.startswith("vivavoce: rhasspy/piper-voices cannot be downloaded")
    assert ran.returncode == 3
