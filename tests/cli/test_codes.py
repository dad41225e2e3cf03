"""``say --codes``: one utterance, its codes, and its sound."""

from __future__ import annotations

import importlib.util
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FRAME = 1920
Vivavoce = Callable[..., Any]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="the extra 'qwen3' is not installed"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Folders of tiny random models, by the end of their name."""
    from vivavoce.testing.random_qwen3 import make_random_checkpoint

    root = tmp_path_factory.mktemp("models")

    def made(name: str) -> str:
        folder = root / name
        if not folder.exists():
            make_random_checkpoint(f"Qwen3-TTS-12Hz-{name}", folder, tiny=True)
        return str(folder)

    return made


def arguments(model: str, file: Path, *more: str) -> list[str]:
    how = ["--engine", "qwen3", "--device", "cpu", "--dtype", "float32", "--set", "qwen3.threads=1"]
    return ["say", *how, "--model", model, "--codes", str(file), "--max-frames", "4", *more, "Hi."]


def test_codes_and_the_sound_beside_them(
    vivavoce: Vivavoce, tiny: Callable[[str], str], tmp_path: Path
) -> None:
    file = tmp_path / "said.npy"
    model = tiny("0.6B-CustomVoice")
    ran = vivavoce(*arguments(model, file, "--greedy", "--voice", "alloy", "--language", "en"))
    assert ran.status == 0, ran.err
    codes = np.load(file)
    assert codes.dtype == np.int64 and codes.shape == (4, 16)
    assert "cut at 4 frames" in ran.err
    with wave.open(str(tmp_path / "said.wav")) as sound:
        assert sound.getframerate() == 24_000 and sound.getnframes() == 4 * FRAME
    again = tmp_path / "again.npy"
    vivavoce(*arguments(model, again, "--greedy", "--voice", "ryan", "--language", "English"))
    np.testing.assert_array_equal(np.load(again), codes)


def test_a_recording_to_speak_like(
    vivavoce: Vivavoce, tiny: Callable[[str], str], tmp_path: Path
) -> None:
    reference = tmp_path / "reference.wav"
    noise = np.random.default_rng(0).standard_normal(36_000) * 3_000
    with wave.open(str(reference), "wb") as sound:
        sound.setparams((1, 2, 24_000, 0, "NONE", ""))
        sound.writeframes(noise.astype("<i2").tobytes())
    found = []
    for number, more in enumerate(([], ["--ref-text", "Words."], ["--text-layout", "whole"])):
        file = tmp_path / f"{number}.npy"
        how = ["--greedy", "--ref-audio", str(reference), "--ref-silence", "0", *more]
        ran = vivavoce(*arguments(tiny("0.6B-Base"), file, *how))
        assert ran.status == 0, ran.err
        found.append(np.load(file))
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--instructions", "Whisper."], "takes no instructions"),
        (["--ref-text", "Words."], "--ref-text needs --ref-audio"),
        (["--voice", "nobody"], "Unknown voice"),
        (["--text-layout", "sideways"], "text_layout"),
        (["--ssml"], "not SSML"),
    ],
)
def test_what_it_refuses(
    vivavoce: Vivavoce, tiny: Callable[[str], str], tmp_path: Path, more: list[str], said: str
) -> None:
    file = tmp_path / "none.npy"
    ran = vivavoce(*arguments(tiny("0.6B-CustomVoice"), file, *more))
    assert ran.status != 0 and said in ran.err
    assert not file.exists()


def test_other_engines_have_no_codes(vivavoce: Vivavoce, tmp_path: Path) -> None:
    ran = vivavoce("say", "--codes", str(tmp_path / "none.npy"), "Hi.")
    assert ran.status != 0 and "--engine qwen3" in ran.err
