"""The kernels run in Triton's interpreter, on the CPU; without Triton its tests are left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import pytest

collect_ignore_glob: list[str] = []


def pytest_report_header() -> str | None:
    """Says what is left out."""
    missing = [name for name in ("torch", "safetensors", "triton") if find_spec(name) is None]
    return f"kernels: without {', '.join(missing)} their tests are left out" if missing else None


if find_spec("torch") is None or find_spec("safetensors") is None:
    collect_ignore_glob = ["test_*.py"]
elif find_spec("triton") is None:
    collect_ignore_glob = ["test_*_kernel.py", "test_ahead.py"]


@contextmanager
def interpreted() -> Iterator[None]:
    """What is imported meanwhile is interpreted, for good; nothing else of the process is."""
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TRITON_INTERPRET"]
        else:
            os.environ["TRITON_INTERPRET"] = before


if not collect_ignore_glob:
    with interpreted():
        from vivavoce.engines.kernels import attention_triton, linear_triton, sampler_triton

    assert attention_triton and linear_triton and sampler_triton


@pytest.fixture(autouse=True)
def prepared() -> Iterator[None]:
    """The same tensors in any order of tests; Triton asks again whether it interprets."""
    import torch

    torch.manual_seed(7)
    with interpreted():
        yield
