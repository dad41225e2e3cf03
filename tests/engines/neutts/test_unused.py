"""Settings that a backbone has no use for are named, not passed over."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from vivavoce.engines.neutts.options import NeuTTSOptions
from vivavoce.engines.neutts.unused import unused, warn_of_unused

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
