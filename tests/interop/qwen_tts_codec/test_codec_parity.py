"""Sound, codes and speakers' vectors that the published package gives, fp32, on a CPU.

QWEN_TTS_PYTHON names a Python interpreter that has qwen-tts==0.1.1 (see ../qwen_tts); without one
these tests are skipped. With RECORD_GOLDEN=1 what it gives becomes the golden file of
tests/engines/qwen3/codec.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines.qwen3.codec.small import small_checkpoint, some_codes, some_sound
from vivavoce.engines.qwen3.checkpoint import Checkpoint
from vivavoce.engines.qwen3.codec.decoder import load_decoder
from vivavoce.engines.qwen3.codec.encoder import load_encoder
from vivavoce.engines.qwen3.speaker import load_speaker_encoder

PYTHON = os.environ.get("QWEN_TTS_PYTHON", "")
GOLDEN = Path(__file__).parents[2] / "engines" / "qwen3" / "codec" / "golden.npz"
FRAMES = (1, 7, 60)
LENGTHS = (1, 95, 96, 97, 961, 9_601, 100_003)  # the last is over 1,000 frames: no window
SECONDS = (1.0, 2.37)
SOUND_WITHIN = 3e-4
"""Sound differs by that much from itself on another kind of CPU, which sums in another order."""

pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="QWEN_TTS_PYTHON names no interpreter with qwen-tts"),
    pytest.mark.timeout(600),
]


def inputs() -> dict[str, NDArray[np.generic]]:
    codes = {f"codes{n}": some_codes(f"codes{n}", n) for n in FRAMES}
    sounds = {f"sound{n}": some_sound(f"sound{n}", n) for n in LENGTHS}
    voices = {f"voice{s}": some_sound(f"voice{s}", round(s * 24_000)) for s in SECONDS}
    return {name: given.numpy() for name, given in (codes | sounds | voices).items()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return small_checkpoint(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def published(checkpoint: Checkpoint) -> Mapping[str, NDArray[np.generic]]:
    """What the published package makes of every input, from one process."""
    np.savez(checkpoint.folder / "inputs.npz", **inputs())
    runner = Path(__file__).parent / "official.py"
    ran = subprocess.run(
        [PYTHON, str(runner), str(checkpoint.folder)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    if os.environ.get("RECORD_GOLDEN"):
        shutil.copyfile(checkpoint.folder / "outputs.npz", GOLDEN)
    with np.load(checkpoint.folder / "outputs.npz") as outputs:
        return dict(outputs)


def test_the_golden_file_is_what_the_package_gives(
    published: Mapping[str, NDArray[np.generic]],
) -> None:
    with np.load(GOLDEN) as golden:
        assert set(golden.files) == set(published)
        for name in golden.files:
            within = SOUND_WITHIN if name.startswith("codes") else 1e-5
            np.testing.assert_allclose(golden[name], published[name], rtol=0, atol=within)


@pytest.mark.parametrize("frames", FRAMES)
def test_sound(
    checkpoint: Checkpoint, published: Mapping[str, NDArray[np.generic]], frames: int
) -> None:
    decoder = load_decoder(checkpoint)
    samples = decoder.decode(some_codes(f"codes{frames}", frames)[None], decoder.init_state(1))
    np.testing.assert_allclose(samples[0], published[f"codes{frames}"], rtol=0, atol=SOUND_WITHIN)


@pytest.mark.parametrize("length", LENGTHS)
def test_codes(
    checkpoint: Checkpoint, published: Mapping[str, NDArray[np.generic]], length: int
) -> None:
    codes = load_encoder(checkpoint).encode(some_sound(f"sound{length}", length))
    assert torch.equal(codes, torch.from_numpy(published[f"sound{length}"]))


@pytest.mark.parametrize("seconds", SECONDS)
def test_speakers_vector(
    checkpoint: Checkpoint, published: Mapping[str, NDArray[np.generic]], seconds: float
) -> None:
    sound = some_sound(f"voice{seconds}", round(seconds * 24_000))
    vector = load_speaker_encoder(checkpoint)(sound)
    np.testing.assert_allclose(vector, published[f"voice{seconds}"], rtol=0, atol=1e-5)
