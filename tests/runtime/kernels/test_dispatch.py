"""Which kernels a device gets."""

from __future__ import annotations

import pytest
import torch

from vivavoce.runtime.kernels import dispatch as chooser
from vivavoce.runtime.kernels.dispatch import Path, chosen, fits
from vivavoce.runtime.nn.weights import Precision, quantize

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """A GPU of the capability in the dictionary."""
    told = {"capability": (8, 9)}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: told["capability"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    monkeypatch.setattr(chooser, "triton_fault", lambda device: None)
    return told


def test_a_cpu_gets_pytorch_and_hears_why() -> None:
    kernels = chosen(CPU, torch.float32)
    assert kernels.path is Path.TORCH
    assert "cpu" in kernels.why


def test_bf16_on_a_gpu_gets_triton(
    gpu: dict[str, tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    kernels = chosen(CUDA, torch.bfloat16)
    assert kernels.path is Path.TRITON
    assert "Some GPU (sm_89)" in kernels.why
    monkeypatch.setattr(chooser, "find_spec", lambda name: None)
    kernels = chosen(CUDA, torch.bfloat16)
    assert (kernels.path, kernels.why) == (Path.TORCH, "Triton is not installed")


def test_a_triton_that_does_not_work_is_not_chosen(
    gpu: dict[str, tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(chooser, "triton_fault", lambda device: "Triton finds no C compiler")
    kernels = chosen(CUDA, torch.bfloat16)
    assert (kernels.path, kernels.why) == (Path.TORCH, "Triton finds no C compiler")


def test_float32_keeps_the_reference_s_arithmetic(gpu: dict[str, tuple[int, int]]) -> None:
    assert chosen(CUDA, torch.float32).path is Path.TORCH


def test_an_old_gpu_gets_pytorch(gpu: dict[str, tuple[int, int]]) -> None:
    pytest.importorskip("triton")
    gpu["capability"] = (7, 5)
    kernels = chosen(CUDA, torch.bfloat16)
    assert kernels.path is Path.TORCH
    assert "sm_75" in kernels.why


def test_what_is_asked_for_is_given(gpu: dict[str, tuple[int, int]]) -> None:
    assert chosen(CUDA, torch.bfloat16, Path.TORCH).why == "asked for"


def test_float8_needs_a_gpu_that_converts_it(gpu: dict[str, tuple[int, int]]) -> None:
    matrix = torch.randn(8, 8)
    assert fits(quantize(matrix, Precision.FP8), CUDA)
    gpu["capability"] = (8, 6)
    assert not fits(quantize(matrix, Precision.FP8), CUDA)
    assert fits(quantize(matrix, Precision.INT8), CUDA)
