"""A tiny kernel is tried before kernels are relied on, and what is missing is said in words."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, NoReturn

import pytest
import torch

from vivavoce.runtime.kernels import trial
from vivavoce.runtime.kernels.trial import explain, triton_fault

CPU = torch.device("cpu")
BUILD = CalledProcessError(1, ["/usr/bin/gcc", "launcher.c"])


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    triton_fault.cache_clear()
    yield
    triton_fault.cache_clear()


def test_it_is_really_computed() -> None:
    """By Triton's interpreter, as all kernels are in these tests."""
    assert triton_fault(CPU) is None


def test_wrong_numbers_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_doubles", lambda device: False)
    assert triton_fault(CPU) == "Triton computes wrong numbers on this device"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("Failed to find C compiler. Please specify via CC"), "install gcc"),
        (ImportError("cannot import name 'gdc_launch_dependents'"), "gdc_launch_dependents"),
        (AttributeError("module 'triton' has no attribute 'jit'"), "AttributeError: module"),
        (AssertionError("libcuda.so cannot found!\nmore"), "AssertionError: libcuda.so"),
        (AssertionError(), "failed: AssertionError"),
        (BUILD, "C compiler failed (gcc)"),
    ],
)
def test_each_fault_has_its_words(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})

    def fail(_: Any) -> NoReturn:
        raise error

    monkeypatch.setattr(trial, "_doubles", fail)
    assert said in str(triton_fault(CPU))


def test_headers_that_are_not_there_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert explain(BUILD) == (
        "Triton finds no Python.h: install gcc (on Debian and Ubuntu: apt install gcc python3-dev)"
    )


def test_a_fault_of_our_own_code_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(trial, "_doubles", fail)
    with pytest.raises(KeyboardInterrupt):
        triton_fault(CPU)
