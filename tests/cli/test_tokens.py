"""``say --tokens``: one utterance of engine neutts, its speech tokens, and its sound."""

from __future__ import annotations

import wave
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Vivavoce = Callable[..., Any]
NEEDED = ("llama_cpp", "gguf", "onnx", "onnxruntime", "piper")

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in NEEDED), reason="the extra 'neutts' is not installed"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``models random --tiny`` writes."""
    from typer.testing import CliRunner

    from vivavoce.cli.models import models

    folder = tmp_path_factory.mktemp("models") / "tiny"
    ran = CliRunner().invoke(models, ["random", "neutts-nano", str(folder), "--tiny"])
    assert ran.exit_code == 0 and ran.output.strip() == str(folder)
    return folder


def arguments(tiny: Path, file: Path, *more: str) -> list[str]:
    sets = {
        "codec_repo": str(tiny / "codec.onnx"), "threads": "1", "batch_threads": "1",
        "codec_threads": "1", "prune": "false",
    }  # fmt: skip
    how = [part for name, value in sets.items() for part in ("--set", f"neutts.{name}={value}")]
    model = ["--model", str(tiny / "backbone.gguf")]
    return ["say", "--engine", "neutts", *model, *how, "--tokens", str(file), *more, "Hello there."]


def test_greedy_tokens_and_the_sound_beside_them(
    vivavoce: Vivavoce, tiny: Path, tmp_path: Path
) -> None:
    how = ("--greedy", "--option", "max_codes=20")
    found = []
    for name in ("one.npy", "two.npy"):
        ran = vivavoce(*arguments(tiny, tmp_path / name, *how))
        assert ran.status == 0, ran.err
        found.append(np.load(tmp_path / name))
    assert found[0].dtype == np.int64 and found[0].shape == (20,)
    assert found[0].min() >= 0 and found[0].max() < 65_536
    np.testing.assert_array_equal(found[0], found[1])
    assert "cut at 20 tokens" in ran.err
    with wave.open(str(tmp_path / "one.wav")) as sound:
        assert sound.getframerate() == 24_000 and sound.getnframes() == 20 * 480


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--instructions", "Whisper."], "no instructions"),
        (["--voice", "nobody-here"], "Unknown voice"),
        (["--language", "de"], "speaks 'en'"),
        (["--device", "cuda"], "GPU"),
        (["--ssml"], "--tokens takes plain text"),
    ],
)
def test_what_it_refuses(
    vivavoce: Vivavoce, tiny: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    ran = vivavoce(*arguments(tiny, tmp_path / "none.npy", *more))
    assert ran.status != 0 and said in ran.err
    assert not (tmp_path / "none.npy").exists()


def test_other_engines_have_no_tokens(vivavoce: Vivavoce, tmp_path: Path) -> None:
    ran = vivavoce("say", "--tokens", str(tmp_path / "none.npy"), "Hi.")
    assert ran.status != 0 and "--engine neutts" in ran.err
