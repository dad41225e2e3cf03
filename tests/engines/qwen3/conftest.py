"""Published small files and tiny random checkpoints for the tests of this engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "data" / "qwen3"
FILES = DATA / "checkpoint_files"


@pytest.fixture(scope="session")
def qwen3_data() -> Path:
    """tests/data/qwen3."""
    return DATA


@pytest.fixture(scope="session")
def tokenizer_files() -> Path:
    """The folder with vocab.json, merges.txt and tokenizer_config.json."""
    return FILES


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes tiny checkpoints by the end of their model's name, each once: "0.6B-CustomVoice"."""
    from vivavoce.testing.random_qwen3 import make_random_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints")

    def made(name: str) -> Path:
        target = folder / name
        if not target.exists():
            make_random_checkpoint(f"Qwen3-TTS-12Hz-{name}", target, tiny=True)
        return target

    return made


@pytest.fixture
def tiny_copy(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copies of them that a test may damage."""

    def copied(name: str) -> Path:
        return shutil.copytree(tiny_checkpoint(name), tmp_path / name)

    return copied
