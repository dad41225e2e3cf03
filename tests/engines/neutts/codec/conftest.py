"""One tiny random codec for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from vivavoce.engines.neutts.codec.network import DecoderWeights, open_decoder
from vivavoce.testing.random_neucodec import make_random_codec


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict as torch saves it."""
    folder = tmp_path_factory.mktemp("codec")
    return make_random_codec(folder / "pytorch_model.bin", tiny=True)


@pytest.fixture(scope="session")
def weights(checkpoint: Path) -> DecoderWeights:
    """The decoder in it."""
    return open_decoder(checkpoint)
