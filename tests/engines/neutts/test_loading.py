"""What the engine says of itself, and settings that have no effect."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from vivavoce.engines.neutts.loading import gpu, unused, warn_of_unused, weights
from vivavoce.engines.neutts.options import NeuTTSOptions
from vivavoce.types import Gpu, WeightsFormat

CARD, OTHER = Gpu("Card", 1, 2, 3, 4), Gpu("Other", 1, 2)
INT8, FLOAT = WeightsFormat("int8", "asked for"), WeightsFormat("float32", "the default")


def part(device: str, card: Gpu | None = None, stored: WeightsFormat | None = None) -> Any:
    return SimpleNamespace(device=device, gpu=card, weights=stored)


def test_the_backbone_s_card_goes_first() -> None:
    assert gpu(part("cuda:0", CARD), part("cuda:1", OTHER)) is CARD
    assert gpu(part("cpu", OTHER), part("cuda:0", CARD)) is CARD
    assert gpu(part("cuda:0", None), part("cuda:0", CARD)) is CARD


def test_on_a_cpu_and_unloaded_there_is_none() -> None:
    assert gpu(part("cpu", CARD), part("cpu", CARD)) is None
    assert gpu(None, None) is None
    assert gpu(SimpleNamespace(device="cuda:0"), None) is None  # type: ignore[arg-type]


def test_weights_of_each_part_that_tells_them() -> None:
    told = weights(part("cpu", stored=INT8), part("cpu", stored=FLOAT))
    assert list(told.items()) == [("backbone", INT8), ("codec", FLOAT)]
    assert weights(None, part("cpu")) == {}


GGUF: Any = SimpleNamespace(device="cuda:0", details={"runtime": "llama.cpp"})
ON_CPU: Any = SimpleNamespace(device="cpu", details={})
ON_CUDA: Any = SimpleNamespace(device="cuda:0", details={})


@pytest.mark.parametrize(
    ("options", "backbone", "named"),
    [
        (NeuTTSOptions(quantize="int8"), GGUF, ["quantize=int8"]),
        (NeuTTSOptions(cuda_graphs=True, quantize="int8"), GGUF, ["quantize=int8", "cuda_graphs"]),
        (NeuTTSOptions(cuda_graphs=True), ON_CPU, ["cuda_graphs"]),
        (NeuTTSOptions(cuda_graphs=True), ON_CUDA, []),
        (NeuTTSOptions(), GGUF, []),
        (NeuTTSOptions(cuda_graphs=False), ON_CPU, []),
    ],
)
def test_each_has_its_sentence(options: NeuTTSOptions, backbone: Any, named: list[str]) -> None:
    assert [words.partition(" ")[0] for words in unused(options, backbone)] == named


def test_they_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_unused(NeuTTSOptions(quantize="int8"), GGUF)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "as its file has them" in record.getMessage()
