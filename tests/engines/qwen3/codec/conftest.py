"""One small codec for all tests here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines.qwen3.codec.small import small_checkpoint
from vivavoce.engines.qwen3.checkpoint import Checkpoint
from vivavoce.engines.qwen3.codec.decoder import CodecDecoder, load_decoder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The checkpoint, opened."""
    return small_checkpoint(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def decoder(small: Checkpoint) -> CodecDecoder:
    """Its decoder in float32."""
    return load_decoder(small)


@pytest.fixture(scope="session")
def exact(small: Checkpoint) -> CodecDecoder:
    """Its decoder in float64, where rounding hides nothing."""
    return load_decoder(small, dtype=torch.float64)


@pytest.fixture(scope="session")
def golden() -> Mapping[str, NDArray[np.generic]]:
    """What qwen-tts 0.1.1 makes of these weights (see tests/interop/qwen_tts_codec)."""
    with np.load(Path(__file__).parent / "golden.npz") as recorded:
        return dict(recorded)
