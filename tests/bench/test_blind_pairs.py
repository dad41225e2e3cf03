"""Pairs for listening blind, from a stand-in engine and from a tiny random checkpoint."""

from __future__ import annotations

import json
import random
import wave
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from vivavoce.bench.blind_pairs import KEY, Order, write_pairs
from vivavoce.cli.main import app
from vivavoce.errors import InputError, SettingsError

WORDS = ("One.", "Two.", "Three.", "Four.")


class Sound:
    def __init__(self, level: float) -> None:
        self.samples, self.duration_s = np.full(240, level, np.float32), 0.01

    def save(self, path: Path) -> None:
        path.write_text(f"{self.samples[0]:.1f}")


class StandIn:
    """Speaks 0.5 with whole weights and 0.25 otherwise."""

    live = 0

    def __init__(self, used: str, *, seed: bool = True) -> None:
        details = {"quantize": used, "odd": object()}
        self.info = SimpleNamespace(
            name="x", model="m", device="cpu", details=details,
            capabilities=SimpleNamespace(seed=seed),
        )  # fmt: skip
        self.said: list[tuple[str, dict[str, Any]]] = []

    def synthesize(self, text: str, **how: Any) -> Sound:
        self.said.append((text, how))
        return Sound(0.5 if self.info.details["quantize"] == "none" else 0.25)

    def __enter__(self) -> StandIn:
        StandIn.live += 1
        assert StandIn.live == 1, "two models in memory"
        return self

    def __exit__(self, *_: object) -> None:
        StandIn.live -= 1


@pytest.fixture
def loaded() -> tuple[list[StandIn], Callable[..., StandIn]]:
    made: list[StandIn] = []

    def load(engine: str, **options: Any) -> StandIn:
        assert engine == "x"
        made.append(StandIn(options["quantize"]))
        return made[-1]

    return made, load


def test_the_key_and_only_the_key_says_which_is_which(
    loaded: tuple[list[StandIn], Callable[..., StandIn]], tmp_path: Path
) -> None:
    made, load = loaded
    order = Order("x", {"model": "m"}, texts=WORDS, seed=5, how={"voice": "v"})
    key = write_pairs(order, tmp_path / "new", load=load, shuffle=random.Random(1))
    assert key == json.loads((tmp_path / "new" / KEY).read_text())
    sides = []
    for pair in key["pairs"]:
        assert len(pair["files"]) == 2 and not pair["same_samples"]
        for name, told in pair["files"].items():
            assert "int8" not in name and "none" not in name
            content = (tmp_path / "new" / name).read_text()
            assert content == {"none": "0.5", "int8": "0.2"}[told["quantize"]]
        sides.append(next(iter(pair["files"].values()))["quantize"])
    assert set(sides) == {"none", "int8"}, "always in the same order"
    assert made[0].said == made[1].said
    assert [how for _, how in made[0].said] == [{"seed": 5 + n, "voice": "v"} for n in range(4)]


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"'fake'.*quantize"):
        write_pairs(Order("fake", {}, texts=WORDS), tmp_path / "a")
    with pytest.raises(SettingsError, match="seeds"):
        write_pairs(
            Order("x", {}, texts=WORDS), tmp_path / "b",
            load=lambda engine, **how: StandIn(how["quantize"], seed=False),
        )  # fmt: skip
    with pytest.raises(SettingsError, match="'none' is used"):
        write_pairs(
            Order("x", {}, texts=WORDS), tmp_path / "c", load=lambda engine, **how: StandIn("none")
        )
    assert not list(tmp_path.iterdir())


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.wav").touch()
    with pytest.raises(InputError, match="empty folder"):
        write_pairs(Order("fake", {}), tmp_path)
    with pytest.raises(InputError, match="nothing to say"):
        write_pairs(Order("fake", {}, texts=()), tmp_path / "new")


@pytest.mark.skipif(not find_spec("torch"), reason="torch is not installed")
def test_a_tiny_checkpoint_from_the_command_line(tmp_path: Path) -> None:
    from vivavoce.testing.random_qwen3 import make_random_checkpoint

    model = make_random_checkpoint("Qwen3-TTS-12Hz-0.6B-CustomVoice", tmp_path / "model", tiny=True)
    folder = tmp_path / "pairs"
    result = CliRunner().invoke(
        app,
        ["bench", "quality", str(folder), "--model", str(model), "--text", "Hello there.",
         "--max-frames", "6", "--set", "qwen3.device=cpu", "--set", "qwen3.positions=256"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    key = json.loads((folder / KEY).read_text())
    assert set(key["engines"]) == {"none", "int8"}
    [pair] = key["pairs"]
    for name in pair["files"]:
        with wave.open(str(folder / name)) as sound:
            assert sound.getnframes() > 0 and sound.getframerate() == 24_000
    assert sorted(path.name for path in folder.iterdir()) == sorted([KEY, *pair["files"]])
