import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.sounds import cut, noise, snr_db, stream, tone
from vivavoce.audio.resample import Resampler

PAIRS_HZ = [
    (22_050, 8_000),
    (24_000, 8_000),
    (22_050, 24_000),
    (24_000, 48_000),
    (24_000, 16_000),
    (22_050, 16_000),
    (48_000, 8_000),
    (8_000, 48_000),
    (24_000, 22_050),
    (24_000, 11_025),
]


def check_against_one_shot(source_hz: int, target_hz: int, sizes: list[int], n: int) -> None:
    sound = noise(n / source_hz, source_hz)
    wanted = soxr.resample(sound, source_hz, target_hz, "HQ")
    got = stream(Resampler(source_hz, target_hz), cut(sound, sizes))
    assert abs(len(got) - n * target_hz / source_hz) <= 1
    both = min(len(got), len(wanted))
    assert snr_db(wanted[:both], got[:both]) >= 90


@pytest.mark.parametrize(("source_hz", "target_hz"), PAIRS_HZ)
@pytest.mark.parametrize("sizes", [[441], [0, 5_000, 1, 1_764]])
def test_streaming_equals_one_shot(source_hz: int, target_hz: int, sizes: list[int]) -> None:
    check_against_one_shot(source_hz, target_hz, sizes, n=source_hz // 2 + 7)


def test_single_samples_equal_one_shot() -> None:
    check_against_one_shot(22_050, 8_000, [1], n=4_000)


@settings(max_examples=40, deadline=None)
@given(
    pair=st.sampled_from(PAIRS_HZ),
    sizes=st.lists(st.integers(0, 3_000), min_size=1, max_size=6),
    n=st.integers(100, 12_000),
)
def test_any_chunking_and_any_length(pair: tuple[int, int], sizes: list[int], n: int) -> None:
    check_against_one_shot(*pair, sizes, n)


def test_equal_rates_pass_through_untouched() -> None:
    resampler = Resampler(24_000, 24_000)
    sound = noise(0.1, 24_000)
    assert np.array_equal(resampler.push(sound), sound)
    assert len(resampler.finish()) == 0


def test_nothing_in_nothing_out() -> None:
    resampler = Resampler(22_050, 8_000)
    assert len(resampler.push(np.zeros(0, np.float32))) == 0
    assert len(resampler.finish()) == 0


@pytest.mark.parametrize(("source_hz", "target_hz"), PAIRS_HZ)
def test_the_first_short_chunk_gives_sound_at_once(source_hz: int, target_hz: int) -> None:
    """soxr alone gives nothing for 60 to 100 ms here."""
    first = Resampler(source_hz, target_hz).push(tone(0.03, source_hz))
    assert len(first) / target_hz >= 0.015


@pytest.mark.parametrize(("source_hz", "target_hz"), PAIRS_HZ)
def test_little_is_held_back_at_any_time(source_hz: int, target_hz: int) -> None:
    """The end of a clause must not wait for the next one."""
    resampler = Resampler(source_hz, target_hz)
    given_s = got_s = 0.0
    for piece in cut(noise(1.0, source_hz), [source_hz // 50, source_hz // 300]):
        given_s += len(piece) / source_hz
        got_s += len(resampler.push(piece)) / target_hz
        assert given_s - got_s <= 0.0185


def test_rates_without_a_common_grid_are_exact_too() -> None:
    check_against_one_shot(24_000, 8_001, [480], n=12_000)


def test_memory_stays_bounded() -> None:
    resampler = Resampler(24_000, 22_050)
    for _ in range(20):
        resampler.push(noise(0.5, 24_000))
    assert len(resampler._recent) < 24_000


def test_there_is_no_leading_delay() -> None:
    sound = np.zeros(24_000, np.float32)
    sound[12_000] = 1.0
    got = stream(Resampler(24_000, 8_000), cut(sound, [480]))
    assert int(np.argmax(got)) == 4_000
