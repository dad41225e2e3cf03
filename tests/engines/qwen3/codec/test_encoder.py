"""Codes of recordings: those of the published package, whatever the recording's length."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines.qwen3.codec.small import GROUPS, SAMPLES_PER_FRAME, some_sound
from vivavoce.engines.qwen3.checkpoint import Checkpoint
from vivavoce.engines.qwen3.codec.encoder import CodecEncoder, load_encoder


@pytest.fixture(scope="module")
def encoder(small: Checkpoint) -> CodecEncoder:
    return load_encoder(small)


@pytest.mark.parametrize("length", [1, 95, 96, 97, 961, 9_601, 100_003])
def test_codes_of_the_published_package(
    encoder: CodecEncoder, golden: Mapping[str, NDArray[np.generic]], length: int
) -> None:
    codes = encoder.encode(some_sound(f"sound{length}", length))
    assert codes.dtype == torch.int64
    assert codes.shape == (ceil(length / SAMPLES_PER_FRAME), GROUPS)
    assert torch.equal(codes, torch.from_numpy(golden[f"sound{length}"]))


@pytest.mark.parametrize("length", [2_400, 2_401, 4_799, 4_801, 12_345])
def test_pieces_do_not_show(small: Checkpoint, length: int) -> None:
    sound = some_sound("pieces", length)
    encoder = load_encoder(small, dtype=torch.float64)
    codes = encoder.encode(sound)
    assert encoder.piece == 2_400
    encoder.piece = 10**6
    assert torch.equal(encoder.encode(sound), codes)
    encoder.piece = SAMPLES_PER_FRAME // 2
    assert torch.equal(encoder.encode(sound), codes)


def test_what_comes_later_changes_only_what_can_hear_it(encoder: CodecEncoder) -> None:
    sound = some_sound("later", 9_600)
    altered = sound.clone()
    altered[4_800:] = 0
    first, second = encoder.encode(sound), encoder.encode(altered)
    assert torch.equal(first[:49], second[:49])
    assert not torch.equal(first[51:], second[51:])
