"""Tiny random GGUF files, each made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from vivavoce.engines.neutts.gguf.backbone import GgufBackbone, GgufSettings
from vivavoce.engines.neutts.gguf.threads import Threads
from vivavoce.testing.random_gguf import Quantization, make_random_gguf

TinyModel: TypeAlias = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Makes ``tiny_model("nano", "F32")``, each once, in a folder of its own."""
    folder = tmp_path_factory.mktemp("gguf")

    def made(name: str = "nano", quantization: Quantization = "F32") -> Path:
        path = folder / f"{name}-{quantization}" / "model.gguf"
        if not path.exists():
            make_random_gguf(f"neutts-{name}", path, small=True, quantization=quantization)
        return path

    return made


@pytest.fixture(scope="session")
def shared_backbone(tiny_model: TinyModel) -> Iterator[GgufBackbone]:
    """A loaded backbone for all tests; use ``backbone``."""
    settings = GgufSettings(context_tokens=512, capacity=4, threads=Threads(1, 1), exact=True)
    made = GgufBackbone(tiny_model(), settings)
    made.load()
    yield made
    made.unload()


@pytest.fixture
def backbone(shared_backbone: GgufBackbone) -> Iterator[GgufBackbone]:
    """A tiny Nano without rows, one thread, context 512, capacity 4."""
    yield shared_backbone
    for row in range(shared_backbone.capacity):
        shared_backbone.release(row)
