"""``vivavoce say --codes`` gives the codes and the sound that the published package's users get.

The whole way, from the command line and the written text on one side, from the package's own
methods on the other. QWEN_TTS_PYTHON: see test_parity.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivavoce.cli.main import app
from vivavoce.testing.random_qwen3 import make_random_checkpoint

PYTHON = os.environ.get("QWEN_TTS_PYTHON", "")
LIMIT_S = 1_200
FRAMES = 7
TEXT = "Train 47 to Köln isn't here: 3 minutes late, 再见!"
WORDS = "What was said, more or less."

pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="QWEN_TTS_PYTHON names no interpreter with qwen-tts"),
    pytest.mark.timeout(LIMIT_S),
]


@dataclass(frozen=True)
class Asked:
    """One request, as the package's method takes it and as our command does."""

    model: str
    method: str
    arguments: Mapping[str, Any]
    options: tuple[str, ...]
    whole: bool


CASES = {
    "speaker": Asked(
        "0.6B-CustomVoice",
        "generate_custom_voice",
        {"speaker": "Ryan", "language": "English"},
        ("--voice", "alloy", "--language", "en"),
        True,
    ),
    "dialect": Asked(
        "0.6B-CustomVoice",
        "generate_custom_voice",
        {"speaker": "dylan", "language": "Auto"},
        ("--voice", "dylan", "--language", "auto"),
        False,
    ),
    "instructed": Asked(
        "1.7B-CustomVoice",
        "generate_custom_voice",
        {"speaker": "ono_anna", "language": "Japanese", "instruct": "Whisper, please."},
        ("--voice", "sage", "--language", "ja", "--instructions", "Whisper, please."),
        True,
    ),
    "design": Asked(
        "1.7B-VoiceDesign",
        "generate_voice_design",
        {"language": "German", "instruct": "An old man."},
        ("--language", "German", "--instructions", "An old man."),
        False,
    ),
    "x-vector": Asked(
        "1.7B-Base",
        "generate_voice_clone",
        {"language": "French", "ref_audio": "", "x_vector_only_mode": True},
        ("--language", "fr", "--ref-audio", ""),
        False,
    ),
    "in context": Asked(
        "0.6B-Base",
        "generate_voice_clone",
        {"language": "English", "ref_audio": "", "ref_text": WORDS},
        ("--language", "en", "--ref-audio", "", "--ref-text", WORDS, "--ref-silence", "0"),
        False,
    ),
    "in context, whole text": Asked(
        "1.7B-Base",
        "generate_voice_clone",
        {"language": "Auto", "ref_audio": "", "ref_text": WORDS},
        ("--ref-audio", "", "--ref-text", WORDS, "--ref-silence", "0"),
        True,
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints by the end of their name, and reference.wav."""
    root = tmp_path_factory.mktemp("command")
    for name in {asked.model for asked in CASES.values()}:
        made = f"Qwen3-TTS-12Hz-{name}"
        make_random_checkpoint(made, root / name, tiny=True, seed=3, eos_gain=0)
    noise = np.random.default_rng(0).standard_normal(30_000) * 3_000
    with wave.open(str(root / "reference.wav"), "wb") as sound:
        sound.setparams((1, 2, 24_000, 0, "NONE", ""))
        sound.writeframes(noise.astype("<i2").tobytes())
    return root


@pytest.fixture(scope="module")
def published(folder: Path) -> Mapping[str, Any]:
    """What the package gave for every case, from one process."""
    jobs = []
    for name, asked in CASES.items():
        arguments = {"text": TEXT, "non_streaming_mode": asked.whole, **asked.arguments}
        arguments |= {"max_new_tokens": FRAMES + 1}
        if "ref_audio" in arguments:
            arguments["ref_audio"] = str(folder / "reference.wav")
        model = str(folder / asked.model)
        jobs.append({"name": name, "model": model, "method": asked.method, "arguments": arguments})
    (folder / "jobs.json").write_text(json.dumps(jobs), "utf-8")
    runner = Path(__file__).parent / "wrapper.py"
    ran = subprocess.run(
        [PYTHON, str(runner), str(folder)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    with np.load(folder / "codes.npz") as found:
        return dict(found)


@pytest.mark.parametrize("name", CASES)
def test_the_command_gives_what_the_package_gives(
    name: str, folder: Path, published: Mapping[str, Any], tmp_path: Path
) -> None:
    asked, file = CASES[name], tmp_path / "said.npy"
    options = [option or str(folder / "reference.wav") for option in asked.options]
    arguments = ["say", "--engine", "qwen3", "--model", str(folder / asked.model), *options]
    arguments += ["--text-layout", "whole" if asked.whole else "streaming", "--no-normalize"]
    arguments += ["--greedy", "--device", "cpu", "--dtype", "float32", "--max-frames", str(FRAMES)]
    with pytest.raises(SystemExit) as ended:
        app([*arguments, "--codes", str(file), TEXT], prog_name="vivavoce")
    assert not ended.value.code
    codes = np.load(file)
    assert codes.dtype == np.int64 and len(codes) == FRAMES
    np.testing.assert_array_equal(codes, published[name])
    with wave.open(str(file.with_suffix(".wav"))) as sound:
        heard = np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 32768
    expected = published[name + ".sound"]
    assert abs(len(heard) - len(expected)) <= 1  # the package rounds where a reference was cut off
    shared = min(len(heard), len(expected))
    np.testing.assert_allclose(heard[-shared:], expected[-shared:], atol=1e-3)
