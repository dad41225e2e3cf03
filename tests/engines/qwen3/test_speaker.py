"""The speaker encoder and its mel spectrogram."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines.qwen3.codec.small import small_checkpoint, some_sound
from vivavoce.engines.qwen3.checkpoint import Checkpoint
from vivavoce.engines.qwen3.mel import (
    MIN_SAMPLES,
    hz_to_mel,
    log_mel,
    mel_filters,
    mel_to_hz,
)
from vivavoce.engines.qwen3.speaker import load_speaker_encoder
from vivavoce.errors import ModelFileError


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return small_checkpoint(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def golden() -> Mapping[str, NDArray[np.generic]]:
    with np.load(Path(__file__).parent / "codec" / "golden.npz") as recorded:
        return dict(recorded)


@pytest.mark.parametrize("seconds", [1.0, 2.37])
def test_vectors_of_the_published_package(
    small: Checkpoint, golden: Mapping[str, NDArray[np.generic]], seconds: float
) -> None:
    sound = some_sound(f"voice{seconds}", round(seconds * 24_000))
    vector = load_speaker_encoder(small)(sound)
    assert vector.shape == (10,)
    np.testing.assert_allclose(vector, golden[f"voice{seconds}"], rtol=0, atol=1e-5)
    assert vector.std() > 0.05


def test_another_voice_is_another_vector(small: Checkpoint) -> None:
    encoder = load_speaker_encoder(small)
    sound = some_sound("voice", 24_000)
    assert (encoder(sound) - encoder(sound.flip(0) ** 3)).abs().max() > 1e-3


def test_only_base_models_have_one(small: Checkpoint) -> None:
    config = SimpleNamespace(speaker_encoder=None)
    other = Checkpoint(small.folder, config, small.model, small.codec)  # type: ignore[arg-type]
    with pytest.raises(ModelFileError, match="no base model"):
        load_speaker_encoder(other)


def test_mel_filters_have_librosas_values() -> None:
    # librosa 0.11: filters.mel(sr=24000, n_fft=1024, n_mels=128, fmin=0, fmax=12000)
    filters = mel_filters(128)
    assert filters.shape == (128, 513)
    for (band, line), value in LIBROSA.items():
        assert filters[band, line] == pytest.approx(value, abs=1e-8)
    assert filters.sum() == pytest.approx(LIBROSA_SUM, rel=1e-5)
    assert np.count_nonzero(filters) == LIBROSA_NONZERO


LIBROSA = {
    (0, 1): 0.0335504264,
    (3, 5): 0.0214227084,
    (17, 20): 0.0278140791,
    (33, 38): 0.0263622701,
    (34, 39): 0.0220777299,
    (35, 41): 0.0243263226,
    (60, 80): 0.0174763743,
    (90, 182): 0.00815777108,
    (127, 498): 0.00308680045,
    (127, 512): 0,
    (0, 0): -0,
}
LIBROSA_SUM, LIBROSA_NONZERO = 5.4594158, 1008


def test_the_mel_scale_has_an_inverse() -> None:
    hz = np.array([0.0, 10.0, 999.9, 1000.0, 1000.1, 6400.0, 12_000.0])
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, rtol=1e-12)
    # Slaney's scale: 15 mel at 1 kHz, 27 more for each factor of 6.4.
    np.testing.assert_allclose(hz_to_mel(np.array([1000.0, 6400.0])), [15.0, 42.0])


def test_a_tone_is_loudest_in_its_band() -> None:
    tone = torch.sin(torch.arange(24_000) * (2 * np.pi * 1000 / 24_000))
    mel = log_mel(tone, 128)
    assert mel.shape == (128, 24_000 // 256)
    centre = int(mel.mean(1).argmax())
    edges_hz = mel_to_hz(np.linspace(0, hz_to_mel(np.array([12_000.0]))[0], 130))
    assert edges_hz[centre] < 1000 < edges_hz[centre + 2]


def test_silence_and_the_shortest_sound_are_finite() -> None:
    mel = log_mel(torch.zeros(MIN_SAMPLES), 128)
    assert mel.shape[1] >= 1
    assert mel.isfinite().all()
