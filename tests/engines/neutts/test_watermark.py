"""Perth's watermark beside its own package, and on a stream."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from vivavoce.engines.neutts.watermark import (
    CONTEXT,
    FADE,
    RATE_HZ,
    Perth,
    WatermarkStream,
    load_perth,
    perth_weights,
)
from vivavoce.errors import ModelFileError, SettingsError
from vivavoce.testing.torch_zip_writing import write_torch_zip
from vivavoce.types import Samples

HIDDEN = 16
SHAPES = {
    f"encoder.layers.{n}.conv.weight": shape
    for n, shape in enumerate(
        [(HIDDEN, 128, 1), *[(HIDDEN, HIDDEN, 7)] * 5, (128, HIDDEN, 1)],
    )
}
SHAPES |= {name.replace("weight", "bias"): shape[:1] for name, shape in list(SHAPES.items())}  # type: ignore[misc]
PIECES = (8, 8, 12, 15, 25, 25, 50)
"""The quickest ramp, in codes of 480 samples."""

WHY_NOT = "resemble-perth is not installed: pip install --no-deps resemble-perth==1.0.1"
needs_package = pytest.mark.skipif(
    perth_weights() is None or any(find_spec(name) is None for name in ("torch", "scipy")),
    reason=WHY_NOT,
)


def speechlike(seconds: float, seed: int = 0) -> Samples:
    """A voice that glides, with formants, in syllables with pauses and some breath."""
    rng = np.random.default_rng(seed)
    at_s = np.arange(int(seconds * 24_000)) / 24_000
    pitch_hz = 130 + 25 * np.sin(2 * np.pi * 0.7 * at_s) + 8 * np.sin(2 * np.pi * 3.1 * at_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / 24_000
    formant_hz = 600 + 250 * np.sin(2 * np.pi * 1.9 * at_s)
    sound = np.zeros(len(at_s))
    for harmonic in range(1, 40):
        away = (harmonic * pitch_hz - formant_hz) / 350
        further = (harmonic * pitch_hz - 2_300) / 600
        sound += (np.exp(-(away**2)) + 0.3 * np.exp(-(further**2))) * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 2.3 * at_s) + 0.6, 0, 1)
    noisy = sound * syllables + rng.normal(0, 0.01, len(at_s))
    return (noisy / np.abs(noisy).max() * 0.6).astype(np.float32)


def in_pieces(perth: Perth, sound: Samples) -> Samples:
    stream, pieces, at = WatermarkStream(perth), [], 0
    while at < len(sound):
        size = PIECES[min(len(pieces), len(PIECES) - 1)] * 480
        pieces.append(stream.push(sound[at : at + size]))
        at += size
    return np.concatenate(pieces)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {
        name: (rng.standard_normal(shape) * 0.9 / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        if len(shape) > 1
        else rng.standard_normal(shape).astype(np.float32) * np.float32(0.01)
        for name, shape in SHAPES.items()
    }


@pytest.fixture(scope="module")
def perth(weights: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Perth:
    path = tmp_path_factory.mktemp("perth") / "net.pth.tar"
    write_torch_zip(path, iter(weights.items()), SHAPES)
    return Perth.open(path)


def written_out(weights: dict[str, Any], sound: Samples) -> Samples:
    """The same with PyTorch's own transforms and convolutions."""
    import torch

    fine = torch.from_numpy(soxr.resample(sound, 24_000, RATE_HZ).astype(np.float32))
    window = torch.hann_window(2048)
    spectrum = torch.stft(fine, 2048, 320, 2048, window, return_complex=True)
    level = (20 * torch.log10(spectrum.abs().clip(1e-9)) + 180) / 195
    loudness = level.sum(0)
    x = level[None, :128]
    for n in range(7):
        at = f"encoder.layers.{n}.conv"
        kernel, bias = (torch.from_numpy(weights[f"{at}.{kind}"]) for kind in ("weight", "bias"))
        x = torch.nn.functional.conv1d(x, kernel, bias, padding=kernel.shape[2] // 2)
        x = torch.nn.functional.leaky_relu(x) if n < 6 else x
    level = level.clone()
    level[:128] += x[0] * (loudness > 0.05 * loudness.max())
    louder = 10 ** ((level * 195 - 180) / 20)
    marked = torch.istft(louder * torch.exp(1j * spectrum.angle()), 2048, 320, 2048, window)
    return np.asarray(soxr.resample(marked.numpy(), RATE_HZ, 24_000), np.float32)


def there_and_back(sound: Samples) -> Samples:
    """What resampling alone makes of sound."""
    fine = soxr.resample(sound, 24_000, RATE_HZ)
    return np.asarray(soxr.resample(fine, RATE_HZ, 24_000), np.float32)


def test_it_is_what_pytorch_makes_of_the_same_weights(perth: Perth, weights: Any) -> None:
    pytest.importorskip("torch")
    sound = speechlike(1.7)
    marked = written_out(weights, sound)
    added, expected = perth(sound) - sound, marked - there_and_back(sound)[: len(marked)]
    assert added.std() > 1e-3
    np.testing.assert_allclose(added[: len(expected)], expected, atol=2e-5)


@pytest.mark.parametrize("count", [0, 1, 480, 769, 24_007])
def test_the_length_stays(perth: Perth, count: int) -> None:
    sound = speechlike(1.1)[:count]
    assert perth(sound).shape == (count,) and perth(sound).dtype == np.float32
    assert in_pieces(perth, speechlike(1.1)).shape == speechlike(1.1).shape


def test_silence_and_loudness_stay_finite(perth: Perth) -> None:
    for sound in (np.zeros(9_000, np.float32), np.ones(9_000, np.float32)):
        assert np.isfinite(perth(sound)).all()
    assert np.abs(perth(np.zeros(9_000, np.float32))).max() < 1e-6


def test_other_weights_are_refused(weights: dict[str, Any], tmp_path: Path) -> None:
    some = {name: shape for name, shape in SHAPES.items() if ".6." not in name}
    path = tmp_path / "some.tar"
    write_torch_zip(path, ((name, weights[name]) for name in some), some)
    with pytest.raises(ModelFileError, match="missing"):
        Perth.open(path)
    narrow = SHAPES | {"encoder.layers.2.conv.weight": (HIDDEN, HIDDEN - 1, 7)}
    cut = weights | {"encoder.layers.2.conv.weight": np.zeros((HIDDEN, HIDDEN - 1, 7), np.float32)}
    write_torch_zip(path, iter(cut.items()), narrow)
    with pytest.raises(ModelFileError, match="another"):
        Perth.open(path)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vivavoce.engines.neutts.watermark.perth_weights", lambda: None)
    with pytest.raises(SettingsError, match="pip install --no-deps resemble-perth") as caught:
        load_perth()
    assert caught.value.param == "watermark"


@pytest.fixture(scope="module")
def real() -> Iterator[Any]:
    from engines.neutts.perth_package import real_marker

    with real_marker() as marker:
        yield marker


@needs_package
def test_it_is_the_packages_own_mark(real: Any) -> None:
    sound = speechlike(3.0)
    theirs = real.apply_watermark(sound, sample_rate=24_000)
    added, expected = load_perth()(sound) - sound, theirs - there_and_back(sound)[: len(theirs)]
    assert added.std() > 1e-3
    np.testing.assert_allclose(added[: len(expected)], expected, atol=2e-5)


@needs_package
@pytest.mark.parametrize("seed", [0, 1])
def test_its_own_detector_finds_what_was_marked_in_pieces(real: Any, seed: int) -> None:
    def found(sound: Samples) -> float:
        return float(real.get_watermark(sound, 24_000, round=False))

    sound = speechlike(6.0, seed)
    marked = in_pieces(load_perth(), sound)  # type: ignore[arg-type]
    assert len(marked) == len(sound)
    assert found(sound) < 0.2
    assert found(marked) > 0.9
    assert found(marked[:48_000]) > 0.9 and found(marked[-48_000:]) > 0.9


def test_what_is_added_fades_at_the_edges_of_each_piece() -> None:
    stream = WatermarkStream(lambda samples: samples + np.float32(0.01))
    for count in (3_840, 12_000):
        piece = np.full(count, 0.25, np.float32)
        added = stream.push(piece) - piece
        assert len(added) == count
        np.testing.assert_allclose(added[FADE:-FADE], 0.01, atol=1e-6)
        assert abs(added[0]) < 1e-3 and abs(added[-1]) < 1e-3


def test_the_sound_before_is_context() -> None:
    seen: list[Samples] = []

    def mark(samples: Samples) -> Samples:
        seen.append(samples)
        return samples

    stream = WatermarkStream(mark)
    sound = np.arange(40_000, dtype=np.float32) / 40_000
    heard = [stream.push(piece) for piece in np.split(sound, [4_000, 30_000])]
    np.testing.assert_array_equal(np.concatenate(heard), sound)
    assert [len(each) for each in seen] == [4_000, 30_000, 10_000 + CONTEXT]
    np.testing.assert_array_equal(seen[2], sound[-10_000 - CONTEXT :])


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_tiny_pieces_and_marks_that_lose_samples(count: int) -> None:
    stream = WatermarkStream(lambda samples: samples[:-3])
    piece = np.ones(count, np.float32)
    np.testing.assert_array_equal(stream.push(piece), piece)
