"""FSQ and the ISTFT are what independent implementations compute."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from vivavoce.engines.neutts.codec.network import (
    BINS,
    CUT,
    FRAME,
    checked_codes,
    code_vectors,
    half_bases,
    hann,
    istft,
    nearest_codes,
)
from vivavoce.errors import InputError

ALL = np.arange(65_536, dtype=np.int32)


def test_every_code_stands_for_what_the_quantizer_library_says() -> None:
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("vector_quantize_pytorch")
    fsq = library.ResidualFSQ(dim=8, levels=[4] * 8, num_quantizers=1)
    theirs = fsq.get_codes_from_indices(torch.from_numpy(ALL.astype(np.int64))[None, :, None])
    assert np.array_equal(code_vectors(ALL), theirs[0, 0].numpy())


def test_vectors_get_the_codes_the_quantizer_library_gives() -> None:
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("vector_quantize_pytorch")
    fsq = library.ResidualFSQ(dim=8, levels=[4] * 8, num_quantizers=1).eval()
    vectors = np.random.default_rng(0).normal(0, 2, (20_000, 8)).astype(np.float32)
    with torch.inference_mode():
        theirs = fsq(torch.from_numpy(vectors)[None])[1][0, :, 0].numpy()
    ours = nearest_codes(vectors)
    # tanh differs in the last bit between libraries: one value in ten thousand may round over.
    assert np.mean(ours != theirs) < 1e-4
    assert len(np.unique(ours)) > 10_000


def test_code_and_vector_are_inverse_where_bounding_keeps_them_apart() -> None:
    digits = code_vectors(ALL) * 2
    # What two boundings bring to each of the four levels.
    before = np.array([-9.0, -0.5, 0.0, 9.0], np.float32)
    assert np.array_equal(nearest_codes(before[digits.astype(int) + 2]), ALL)


@pytest.mark.parametrize(
    "codes", [np.zeros(0, np.int32), np.array([-1]), np.array([65_536]), np.zeros((1, 2), np.int32)]
)
def test_what_is_no_codes_is_refused(codes: np.ndarray) -> None:
    with pytest.raises(InputError):
        checked_codes(codes)


def test_floats_are_no_codes() -> None:
    with pytest.raises(InputError):
        checked_codes(np.zeros(3, np.float32))


@pytest.mark.parametrize("frames", [4, 5, 20])
def test_istft_is_scipys(frames: int) -> None:
    rng = np.random.default_rng(frames)
    spectra = rng.normal(size=(BINS, frames)) + 1j * rng.normal(size=(BINS, frames))
    spectra[[0, -1]] = spectra[[0, -1]].real
    # scipy divides the window by its sum.
    scaled = spectra / hann().sum()
    theirs = scipy.signal.istft(scaled, nperseg=FRAME, noverlap=FRAME - 480, window=hann())[1]
    # scipy cuts half a frame from both sides, more than the decoder does.
    more = FRAME // 2 - CUT
    ours = istft(spectra.real.T, spectra.imag.T)[more:-more]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_istft_of_few_frames_inverts_what_it_can(frames: int) -> None:
    sound = np.random.default_rng(0).normal(size=480 * (frames + 3))
    windows = np.stack([sound[480 * i :][:FRAME] * hann() for i in range(frames)])
    spectra = np.fft.rfft(windows)
    np.testing.assert_allclose(istft(spectra.real, spectra.imag), sound[CUT:-CUT], atol=1e-9)


def test_half_bases_are_the_inverse_transform() -> None:
    rng = np.random.default_rng(0)
    spectrum = rng.normal(size=BINS) + 1j * rng.normal(size=BINS)
    even, odd = (part @ base for part, base in zip(_parts(spectrum), half_bases(), strict=True))
    frame = np.concatenate([even + odd, (even - odd)[-2:0:-1]])
    np.testing.assert_allclose(frame, np.fft.irfft(spectrum) * hann(), atol=1e-14)


def _parts(spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return spectrum.real, spectrum.imag
