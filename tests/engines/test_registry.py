"""Options that were set for any engine do not stop one that has none of them."""

from __future__ import annotations

import logging

import pytest

from vivavoce.engines.registry import create_engine
from vivavoce.errors import SettingsError, UnknownOption
from vivavoce.testing.fake_engine import FakeEngine

GPU_SETTINGS = {
    "quantize": "int8",
    "cuda_graphs": True,
    "torch_compile": True,
    "torch_compile_mode": "reduce-overhead",
    "gpu_memory_budget_mb": 4096,
}


@pytest.mark.parametrize("name", ["fake", "piper"])
def test_each_is_named_as_without_effect(name: str, caplog: pytest.LogCaptureFixture) -> None:
    engine = create_engine(name, {}, GPU_SETTINGS)
    assert engine.info.name == name
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(GPU_SETTINGS)
    assert f"QUANTIZE=int8 has no effect: the engine '{name}' has no such option." in said
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_what_asks_for_nothing_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    create_engine(
        "fake", {}, {"quantize": "none", "cuda_graphs": False, "torch_compile_mode": "off"}
    )
    assert caplog.records == []


def test_an_engine_with_the_option_gets_it_and_its_own_goes_first() -> None:
    engine = create_engine("fake", {"capacity": 3}, {"capacity": 5, "voice": "bass"})
    assert isinstance(engine, FakeEngine)
    assert (engine.options.capacity, engine.options.voice) == (3, "bass")


def test_an_engine_s_own_unknown_option_is_an_error() -> None:
    with pytest.raises(UnknownOption) as caught:
        create_engine("fake", {"quantize": "int8"}, {"quantize": "int8"})
    assert caught.value.param == "quantize"


def test_a_wrong_value_is_an_error_wherever_it_was_set() -> None:
    with pytest.raises(SettingsError, match="capacity"):
        create_engine("fake", {}, {"capacity": "many"})
