from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.bench.heard import FLOAT_FULL_SCALE, AudibleDetector, PlaybackClock

RATE_HZ = 1000


def test_sound_that_arrives_in_time_never_stalls() -> None:
    clock = PlaybackClock(RATE_HZ)
    for arrived_s in (5.0, 5.05, 5.2):
        clock.feed(arrived_s, 100)
    assert (clock.underruns, clock.stalled_ms) == (0, 0.0)
    assert clock.ends_at_s == pytest.approx(5.3)


def test_a_late_chunk_stalls_and_moves_everything_after_it() -> None:
    clock = PlaybackClock(RATE_HZ)
    clock.feed(1.0, 100)
    assert clock.feed(1.25, 100) == 1.25
    clock.feed(1.35, 100)
    assert clock.underruns == 1
    assert clock.stalled_ms == pytest.approx(150)
    assert clock.ends_at_s == pytest.approx(1.45)


@pytest.mark.parametrize(("buffer_ms", "underruns"), [(0, 1), (100, 1), (160, 0)])
def test_a_buffer_hides_what_is_not_later_than_it(buffer_ms: float, underruns: int) -> None:
    clock = PlaybackClock(RATE_HZ, buffer_ms)
    clock.feed(1.0, 100)
    clock.feed(1.25, 100)
    assert clock.underruns == underruns


def test_a_gap_under_a_millisecond_is_no_underrun() -> None:
    clock = PlaybackClock(RATE_HZ)
    clock.feed(1.0, 100)
    clock.feed(1.1005, 100)
    assert clock.underruns == 0


@given(
    st.lists(st.tuples(st.floats(0, 2), st.integers(0, 500)), min_size=1, max_size=20),
    st.floats(0, 500),
)
def test_playback_lasts_as_long_as_sound_and_stalls_together(
    chunks: list[tuple[float, int]], buffer_ms: float
) -> None:
    clock = PlaybackClock(RATE_HZ, buffer_ms)
    arrived_s = 10.0
    for gap_s, samples in chunks:
        arrived_s += gap_s
        clock.feed(arrived_s, samples)
    first_s = 10.0 + chunks[0][0] + buffer_ms / 1000
    sound_s = sum(samples for _, samples in chunks) / RATE_HZ
    assert clock.ends_at_s is not None
    ignored_s = len(chunks) / 1000
    lasted_s = clock.ends_at_s - first_s
    assert 0 <= lasted_s - sound_s - clock.stalled_ms / 1000 + 1e-9 <= ignored_s + 1e-9


def silence(samples: int) -> np.ndarray:
    return np.zeros(samples, np.int16)


def test_leading_silence_counts_in_playback_time() -> None:
    detector = AudibleDetector(RATE_HZ)
    detector.feed(2.0, silence(80))
    # Early arrival does not help: the 80 ms before it have to be played.
    detector.feed(2.01, np.concatenate([silence(20), np.full(50, 5000, np.int16)]))
    assert detector.audible_at_s == pytest.approx(2.1)


def test_a_stall_before_the_first_sound_counts() -> None:
    detector = AudibleDetector(RATE_HZ)
    detector.feed(2.0, silence(80))
    detector.feed(3.0, np.full(50, -5000, np.int16))
    assert detector.audible_at_s == pytest.approx(3.0)


def test_what_follows_the_first_sound_changes_nothing() -> None:
    detector = AudibleDetector(RATE_HZ)
    detector.feed(2.0, np.full(10, 9000, np.int16))
    detector.feed(9.0, np.full(10, 9000, np.int16))
    assert detector.audible_at_s == 2.0


@pytest.mark.parametrize(("level", "heard"), [(103, False), (104, True), (-104, True)])
def test_the_threshold_is_in_dbfs(level: int, heard: bool) -> None:
    detector = AudibleDetector(RATE_HZ, threshold_dbfs=-50.0)  # 103.6 of 32,768
    detector.feed(1.0, np.full(5, level, np.int16))
    assert (detector.audible_at_s is not None) is heard


def test_float_samples_have_a_full_scale_of_one() -> None:
    detector = AudibleDetector(RATE_HZ, full_scale=FLOAT_FULL_SCALE)
    detector.feed(1.0, np.full(50, 0.003, np.float32))
    assert detector.audible_at_s is None
    detector.feed(1.0, np.full(50, -0.0033, np.float32))
    assert detector.audible_at_s == pytest.approx(1.05)


def test_the_lowest_sample_is_loud() -> None:
    detector = AudibleDetector(RATE_HZ, threshold_dbfs=-1.0)
    detector.feed(1.0, np.full(5, -32_768, np.int16))
    assert detector.audible_at_s == 1.0
