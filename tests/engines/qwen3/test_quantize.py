"""The engine with int8 weights on a CPU: loading, company, memory, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vivavoce.engines.qwen3 import create
from vivavoce.engines.qwen3.checkpoint import open_checkpoint
from vivavoce.engines.qwen3.engine import Qwen3Engine
from vivavoce.engines.qwen3.model import load_talker
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.runtime.nn import int8_cpu
from vivavoce.runtime.nn.linear import Joining, Linear, quantized_bytes
from vivavoce.runtime.nn.quantize import QuantizedLinear, WeightOnly
from vivavoce.runtime.nn.weights import Precision, quantize
from vivavoce.settings import Settings
from vivavoce.types import Span, Utterance

Checkpoints = Callable[[str], Path]
MODEL = "0.6B-CustomVoice"
TEXTS = ("Hello.", "A second caller.", "And one who has more to say than the others.")


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Checkpoints) -> Iterator[Qwen3Engine]:
    options = {"model": tiny_checkpoint(MODEL), "device": "cpu", "quantize": "INT8", "threads": 1}
    made = create(options | {"positions": 256})
    assert isinstance(made, Qwen3Engine)
    made.load()
    yield made
    made.unload()


def talker(folder: Path, precision: Precision, dtype: torch.dtype = torch.float32) -> Talker:
    return load_talker(open_checkpoint(folder), dtype, torch.device("cpu"), precision)


def codes_of(engine: Qwen3Engine, texts: tuple[str, ...]) -> list[np.ndarray]:
    """Greedy codes of texts that are spoken together."""
    voice, options = engine.voices()[0], {"max_frames": 6, "guards": False, "greedy": True}
    slots = [engine.admit(Utterance((Span(text),), voice, options=options)) for text in texts]
    codes = [engine.record(slot) for slot in slots]
    live = set(slots)
    while live:
        live -= {produced.slot for produced in engine.step() if produced.last}
    return [np.stack(each) for each in codes]


@pytest.mark.skipif(not int8_cpu.available(), reason="no exact int8 kernels here")
def test_greedy_codes_are_the_same_in_any_company(engine: Qwen3Engine) -> None:
    alone = [codes_of(engine, (text,))[0] for text in TEXTS]
    together = codes_of(engine, TEXTS)
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)


def test_what_is_told_of_it(engine: Qwen3Engine, tiny_checkpoint: Checkpoints) -> None:
    assert engine.info.details["quantize"] == "int8"
    plain = create({"model": tiny_checkpoint(MODEL), "device": "cpu", "threads": 1})
    plain.load()
    assert plain.info.details["quantize"] == "none"
    assert plain.info.details["quantize_why"] == "the default on a CPU"
    plain.unload()


@pytest.mark.parametrize("value", ["", "none", "None"])
def test_it_is_switched_off(value: str, tiny_checkpoint: Checkpoints) -> None:
    options = {"model": tiny_checkpoint(MODEL), "device": "cpu", "quantize": value}
    engine = create(options)
    engine.load()
    assert engine.info.details["quantize"] == "none"
    engine.unload()


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_what_a_frame_reads_takes_a_byte_a_weight(
    precision: Precision, tiny_checkpoint: Checkpoints
) -> None:
    plain = talker(tiny_checkpoint(MODEL), Precision.NONE, torch.bfloat16)
    small = talker(tiny_checkpoint(MODEL), precision, torch.bfloat16)
    maps = [part for part in plain.modules() if isinstance(part, Linear)]
    weights = sum(part.weight.numel() for part in maps) - plain.codec_head.weight.numel()
    outputs = sum(part.out_features for part in maps)
    assert weights <= quantized_bytes(small) <= weights + 8 * outputs
    floats = sum(tensor.nbytes for tensor in small.state_dict().values())
    whole = sum(tensor.nbytes for tensor in plain.state_dict().values())
    table = plain.model.text_embedding.weight
    rest = floats - (table.numel() + 4 * len(table))
    assert rest == whole - 2 * weights - table.nbytes, "a float copy is left"


def test_the_head_that_ends_speech_stays_as_it_is(tiny_checkpoint: Checkpoints) -> None:
    small = talker(tiny_checkpoint(MODEL), Precision.INT8)
    assert isinstance(small.codec_head, Linear)
    assert isinstance(small.code_predictor.lm_head[0], QuantizedLinear)


def test_joined_maps_are_those_of_the_checkpoint(tiny_checkpoint: Checkpoints) -> None:
    plain = talker(tiny_checkpoint(MODEL), Precision.NONE)
    small = talker(tiny_checkpoint(MODEL), Precision.FP8)
    x = torch.randn(2, 3, plain.config.hidden_size)
    pairs = [
        (one, other)
        for one, other in zip(plain.modules(), small.modules(), strict=True)
        if isinstance(one, Joining) and isinstance(other, Joining)
    ]
    assert pairs
    for one, other in pairs:
        assert isinstance(one.joined, torch.Tensor)
        expected = WeightOnly(quantize(one.joined, Precision.FP8))
        assert other.all_parts(x[..., : one.joined.shape[1]]).equal(
            expected(x[..., : one.joined.shape[1]])
        )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"QUANTIZE": "int8"}, "int8"),
        ({"QUANTIZE": ""}, ""),
        ({"VIVAVOCE_QUANTIZE": "none"}, "none"),
    ],
)
def test_the_environment(
    environment: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    options: dict[str, Any] = Settings(engine="qwen3").shared_options
    assert options.get("quantize") == expected
