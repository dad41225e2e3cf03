"""For all tests."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("triton") is not None:
    # Before anything else imports it: whether its own functions are interpreted, as the tests of
    # engines/kernels need them, is settled then.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        import triton.language  # noqa: F401

HERE = Path(__file__).parent
TORCH = ("torch", "safetensors")
NEEDED = {
    "bench/engine": TORCH,
    "engines/capture": TORCH,
    "engines/kernels": (*TORCH, "triton"),
    "engines/files": TORCH,
    "engines/layers": TORCH,
    "engines/qwen3": TORCH,
    "interop/neucodec": TORCH,
    "interop/qwen_tts": TORCH,
    "interop/qwen_tts_codec": TORCH,
    "engines/neutts/torch_lm": (*TORCH, "tokenizers", "gguf"),
    "engines/neutts/codec/encoder": TORCH,
    "engines/neutts/gguf": ("llama_cpp", "gguf"),
}
"""The rooms that need what not every installation has."""
LEFT_OUT = {
    room: missing
    for room, names in NEEDED.items()
    if (missing := [name for name in names if find_spec(name) is None])
}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Coroutine tests run in asyncio."""
    return "asyncio"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the rooms that need what is not installed."""
    return True if collection_path in [HERE / room for room in LEFT_OUT] else None


def pytest_report_header() -> list[str]:
    """Say what is left out, and why."""
    return [f"left out: {room}, for want of {', '.join(why)}" for room, why in LEFT_OUT.items()]
