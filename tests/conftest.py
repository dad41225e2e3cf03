"""For all tests."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NEED_TORCH = ("engines/layers", "engines/qwen3", "interop/qwen_tts", "interop/qwen_tts_codec")
TORCH_MISSING = find_spec("torch") is None or find_spec("safetensors") is None


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Coroutine tests run in asyncio."""
    return "asyncio"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave the rooms that need torch out where it is not installed."""
    if TORCH_MISSING and collection_path in [HERE / name for name in NEED_TORCH]:
        return True
    return None


def pytest_report_header() -> str:
    """Say what is left out, and why."""
    if TORCH_MISSING:
        return f"left out, for want of torch (the extra 'qwen3'): {', '.join(NEED_TORCH)}"
    return "engine qwen3: tested, torch is installed"
