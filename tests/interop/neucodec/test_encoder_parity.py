"""With the same random weights, the semantic models say what transformers' own say.

QWEN_TTS_PYTHON names a Python interpreter that has transformers (see ../qwen_tts); without one
these tests are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vivavoce.engines.neutts.codec.encoder.hubert import Hubert, HubertShape
from vivavoce.engines.neutts.codec.encoder.w2v_bert import ConformerShape, W2vBert, stacked_features

PYTHON = os.environ.get("QWEN_TTS_PYTHON", "")
OFFICIAL = Path(__file__).with_name("official.py")
W2V = ConformerShape(hidden=32, intermediate=64, heads=2)
HUBERT = HubertShape(channels=24, hidden=64, intermediate=96, heads=4)

pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="QWEN_TTS_PYTHON names no interpreter with transformers"),
    pytest.mark.timeout(600),
]


def sound() -> np.ndarray:
    """Two seconds of a voice-like buzz with noise, so that distances beyond 64 frames occur."""
    at = np.arange(32_000) / 16_000
    buzz = sum(np.sin(2 * np.pi * 110 * n * at) / n for n in range(1, 20))
    swell = 0.1 + 0.1 * np.sin(2 * np.pi * 3 * at)
    return (buzz * swell + np.random.default_rng(0).normal(0, 0.01, len(at))).astype(np.float32)


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """Everything random, what begins as zeros and ones too."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter) * (parameter.ndim < 2) + 0.02)
    return module.eval()


@pytest.fixture(scope="module")
def models() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    return {"w2v": randomised(W2vBert(W2V)), "hubert": randomised(Hubert(HUBERT))}


@pytest.fixture(scope="module")
def official(
    models: dict[str, torch.nn.Module], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, np.ndarray]:
    """What transformers makes of the same weights."""
    folder = tmp_path_factory.mktemp("neucodec")
    arrays: dict[str, Any] = {"sound": sound()}
    for kind, module in models.items():
        arrays |= {f"{kind}.{name}": value.numpy() for name, value in module.state_dict().items()}
    np.savez(folder / "inputs.npz", **arrays)
    sizes = {
        "w2v": {"hidden": W2V.hidden, "intermediate": W2V.intermediate, "heads": W2V.heads},
        "hubert": {
            "hidden": HUBERT.hidden,
            "intermediate": HUBERT.intermediate,
            "heads": HUBERT.heads,
            "channels": HUBERT.channels,
        },
    }
    (folder / "sizes.json").write_text(json.dumps(sizes))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [PYTHON, str(OFFICIAL), str(folder)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(np.load(folder / "outputs.npz"))


def test_filter_banks(official: dict[str, np.ndarray]) -> None:
    ours = stacked_features(sound())
    assert ours.shape == official["features"].shape
    np.testing.assert_allclose(ours, official["features"], atol=2e-3)


def test_w2v_bert_after_sixteen_of_its_layers(
    official: dict[str, np.ndarray], models: dict[str, torch.nn.Module]
) -> None:
    heard = torch.from_numpy(official["features"].astype(np.float32))
    assert len(heard) > 72, "longer than the clipped distances"
    with torch.inference_mode():
        ours = models["w2v"](heard[None])[0].numpy()
    np.testing.assert_allclose(ours, official["w2v"], atol=1e-4)
    assert ours.std() > 0.1


def test_hubert(official: dict[str, np.ndarray], models: dict[str, torch.nn.Module]) -> None:
    with torch.inference_mode():
        ours = models["hubert"](torch.from_numpy(sound())[None])[0].numpy()
    np.testing.assert_allclose(ours, official["hubert"], atol=1e-4)
    assert ours.std() > 0.1
