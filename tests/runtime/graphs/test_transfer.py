"""What a device gets from the host at once, and what is given back to it."""

from __future__ import annotations

import pytest
import torch

from vivavoce.engines.qwen3.model import give_back
from vivavoce.runtime.graphs.api import address
from vivavoce.runtime.graphs.cuda import forget_workspaces
from vivavoce.runtime.graphs.transfer import to_device_packed


def test_values_sent_together_are_one_block() -> None:
    values = {
        "positions": torch.tensor([7]),
        "invalid": torch.tensor([True]),
        "history": torch.randn(1, 3, 5).transpose(1, 2),
        "nothing": torch.zeros(2, 0),
    }
    there = to_device_packed(values, torch.device("cpu"))
    assert list(there) == list(values)
    for name, value in values.items():
        assert torch.equal(there[name], value) and there[name].dtype == value.dtype
        assert there[name].storage_offset() * value.element_size() % 256 == 0
    assert len({address(each) for each in there.values()}) == 1


def test_what_libraries_keep_goes_before_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the other order it would stay."""
    done: list[str] = []
    clear = "_cuda_clearCublasWorkspaces"
    monkeypatch.setattr(torch._C, clear, lambda: done.append("cuBLAS"), raising=False)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("cache"))
    monkeypatch.setattr(torch.accelerator, "empty_host_cache", lambda: done.append("host"))
    give_back(torch.device("cuda"))
    assert done == ["cuBLAS", "cache", "host"]
    monkeypatch.delattr(torch._C, clear)
    forget_workspaces()  # a PyTorch that has none
    assert done == ["cuBLAS", "cache", "host"]
