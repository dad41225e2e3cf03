"""The kernels run in Triton's interpreter, on the CPU; without Triton its tests are left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


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


with interpreted():
    from vivavoce.runtime.kernels import (
        attention_triton,
        frame_ends_triton,
        linear_triton,
        sampler_triton,
    )

assert attention_triton and frame_ends_triton and linear_triton and sampler_triton


@pytest.fixture(autouse=True)
def prepared() -> Iterator[None]:
    """The same tensors in any order of tests; Triton asks again whether it interprets."""
    import torch

    torch.manual_seed(7)
    with interpreted():
        yield
