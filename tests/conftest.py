"""For all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from runtime.hub_server import HubServer

if find_spec("triton") is not None:
    # Before anything else imports it: whether its own functions are interpreted, as the tests of
    # runtime/kernels need them, is settled then.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        import triton.language  # noqa: F401

HERE = Path(__file__).parent

# What whoever runs the tests has in Hugging Face's cache shall not decide how they end. The client
# reads it when it is imported.
os.environ["HF_HUB_CACHE"] = str(HERE / "data" / "no-hub-cache")

TORCH = ("torch", "safetensors")
NEEDED = {
    "bench/engine": TORCH,
    "engines/qwen3": TORCH,
    "engines/test_utterance.py": TORCH,
    "interop/neucodec": TORCH,
    "interop/qwen_tts": TORCH,
    "interop/qwen_tts_codec": TORCH,
    "engines/neutts/torch_lm": (*TORCH, "tokenizers", "gguf"),
    "engines/neutts/codec/encoder": TORCH,
    "engines/neutts/gguf": ("llama_cpp", "gguf"),
    "runtime/graphs": TORCH,
    "runtime/kernels": (*TORCH, "triton"),
    "runtime/nn": TORCH,
    "runtime/test_bfloat16.py": TORCH,
    "runtime/test_safetensors_file.py": TORCH,
    "testing/test_random_gguf.py": ("llama_cpp", "gguf"),
    "testing/test_random_lm.py": (*TORCH, "tokenizers", "gguf"),
    "testing/test_random_qwen3.py": TORCH,
    "testing/test_recorded_graphs.py": TORCH,
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


@pytest.fixture
def hub_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A Hugging Face Hub on this machine; nothing of the user's own is used."""
    from huggingface_hub import constants, file_download

    from runtime.hub_server import serving_hub

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hub-token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)
    # After a line broke the client waits for a second.
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda _: None))
    with serving_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub
