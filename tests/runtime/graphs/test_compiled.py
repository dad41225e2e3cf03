"""Modes, the cache on disk, and code that does not compile."""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

from vivavoce.runtime.graphs import compiled
from vivavoce.runtime.graphs.compiled import Compiled, cache_folder, cache_on_disk, inductor_mode


def test_our_capture_and_theirs_are_never_both() -> None:
    assert inductor_mode("max-autotune") == "max-autotune-no-cudagraphs"
    assert inductor_mode("reduce-overhead") == inductor_mode("default") == "default"
    assert inductor_mode("off") is None


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


def limited(widest: int, seen: list[int], error: type[Exception]) -> Any:
    """Stands for ``torch.compile``: more than ``widest`` numbers do not compile."""

    def compile_(plain: Any, **how: Any) -> Any:
        assert how["fullgraph"] and not how["dynamic"]

        def call(x: torch.Tensor) -> Any:
            seen.append(len(x))
            if len(x) > widest:
                raise error("no compiler here")
            return plain(x)

        return call

    return compile_


@pytest.mark.parametrize(
    "error", [RuntimeError, OSError, subprocess.SubprocessError, FailOnRecompileLimitHit]
)
def test_a_shape_that_does_not_compile_runs_as_it_is(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A later one, too: the others go on, it is tried once, and one warning says so."""
    seen: list[int] = []
    monkeypatch.setattr(compiled.torch, "compile", limited(2, seen, error))
    doubled = Compiled("doubling", lambda x: x * 2, "default")
    with caplog.at_level(logging.WARNING):
        for count in (1, 3, 3, 4, 2):
            assert doubled(torch.ones(count)).tolist() == [2.0] * count
    assert seen == [1, 3, 4, 2] and doubled.failed == 2
    assert len(caplog.records) == 1


def test_a_fault_of_running_code_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """But to compile a known shape again, which PyTorch does at will, is no fault of a call."""
    faults: list[Exception | None] = [None, RuntimeError("broken"), TorchDynamoException("again")]

    def compile_(plain: Any, **_: Any) -> Any:
        def call(x: torch.Tensor) -> Any:
            if (error := faults.pop(0)) is not None:
                raise error
            return plain(x)

        return call

    monkeypatch.setattr(compiled.torch, "compile", compile_)
    called = Compiled("sometimes", lambda x: x + 1, "default")
    called(torch.ones(1))
    with pytest.raises(RuntimeError, match="broken"):
        called(torch.ones(1))
    assert called(torch.ones(1)).item() == 2 and called.failed == 1


@pytest.mark.parametrize("fails", [1, 2])
def test_a_first_call_without_memory_is_made_again_by_whoever_made_room(
    fails: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Then it is compiled, or where memory is short again runs as it is, with a warning."""
    left = [torch.OutOfMemoryError("CUDA out of memory.")] * fails

    def compile_(plain: Any, **_: Any) -> Any:
        def call(x: torch.Tensor) -> Any:
            if left:
                raise left.pop()
            return plain(x) * 10

        return call

    monkeypatch.setattr(compiled.torch, "compile", compile_)
    called = Compiled("tenfold", lambda x: x + 1, "default")
    with caplog.at_level(logging.WARNING):
        with pytest.raises(torch.OutOfMemoryError):
            called(torch.ones(1))
        assert not caplog.records and called.failed == 0
        for _ in range(2):
            assert called(torch.ones(1)).item() == (20 if fails == 1 else 2)
    assert called.failed == len(caplog.records) == fails - 1
