"""A watermark on a stream, with a mark that can be told."""

from __future__ import annotations

import numpy as np
import pytest

from vivavoce.engines.neutts.watermark import CONTEXT, FADE, WatermarkStream
from vivavoce.types import Samples


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
