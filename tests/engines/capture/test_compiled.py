"""Modes, the cache on disk, and code that does not compile."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from vivavoce.engines.capture import compiled
from vivavoce.engines.capture.compiled import Compiled, cache_folder, cache_on_disk, inductor_mode


def test_our_capture_and_theirs_are_never_both() -> None:
    assert inductor_mode("max-autotune", captured=True) == "max-autotune-no-cudagraphs"
    assert inductor_mode("reduce-overhead", captured=True) == "default"
    assert inductor_mode("reduce-overhead", captured=False) == "reduce-overhead"
    assert inductor_mode("off", captured=True) is inductor_mode("off", captured=False) is None


def test_the_cache_is_ours_unless_somebody_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_FX_GRAPH_CACHE"):
        monkeypatch.setenv(variable, "")  # so that it is put back afterwards
        monkeypatch.delenv(variable)
    cache_on_disk(cache_folder())
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"].startswith(str(tmp_path / "vivavoce"))
    assert torch.__version__ in os.environ["TORCHINDUCTOR_CACHE_DIR"]
    assert os.environ["TRITON_CACHE_DIR"] == "/elsewhere"


def broken(*_: Any, **__: Any) -> Any:
    def call(*_: Any) -> None:
        raise RuntimeError("no compiler here")

    return call


def test_what_does_not_compile_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiled.torch, "compile", broken)
    doubled = Compiled("doubling", lambda x: x * 2, "default")
    with caplog.at_level(logging.WARNING):
        assert [doubled(torch.ones(1)).item() for _ in range(2)] == [2.0, 2.0]
    assert doubled.failed and len(caplog.records) == 1


def test_a_fault_of_running_code_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.torch, "compile", lambda plain, **_: plain)
    faults = iter((False, True))

    def sometimes(x: torch.Tensor) -> torch.Tensor:
        if next(faults):
            raise RuntimeError("broken")
        return x

    called = Compiled("sometimes", sometimes, "default")
    called(torch.ones(1))
    with pytest.raises(RuntimeError, match="broken"):
        called(torch.ones(1))
