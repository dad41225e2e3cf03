import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.sounds import cut, noise, stream, voice_like
from vivavoce.audio.trim import FADE_MS, MAX_HELD_S, ClauseTrimmer
from vivavoce.types import Samples

HZ = 24_000


def quiet(duration_s: float, db: float = -80.0) -> Samples:
    """A noise floor."""
    return noise(duration_s, HZ, peak=10 ** (db / 20))


def trimmed(*parts: Samples, size: int = 1_000) -> Samples:
    return stream(ClauseTrimmer(HZ), cut(np.concatenate(parts), [size]))


def test_leading_and_trailing_silence_go() -> None:
    sound = voice_like(0.5, HZ)
    got = trimmed(quiet(0.4), sound, quiet(0.7))
    # 10 ms before, 20 ms after, and a block of 5 ms at either edge at most.
    assert 0.52 <= len(got) / HZ <= 0.54


def test_inner_silence_stays_whole() -> None:
    got = trimmed(voice_like(0.3, HZ), quiet(0.6), voice_like(0.3, HZ))
    assert len(got) / HZ == pytest.approx(1.2, abs=0.001)


def test_sound_itself_is_untouched_between_the_fades() -> None:
    sound = voice_like(0.5, HZ)
    got = trimmed(sound)
    fade = round(FADE_MS / 1000 * HZ)
    assert np.array_equal(got[fade:-fade], sound[fade:-fade])


def test_edges_start_and_end_near_zero() -> None:
    got = trimmed(np.full(HZ // 2, 0.5, np.float32))
    assert abs(got[0]) < 1e-3
    assert abs(got[-1]) < 1e-3
    assert np.abs(np.diff(got)).max() < 0.01


@pytest.mark.parametrize("silence", [np.zeros(HZ, np.float32), quiet(1.0), quiet(1.0, db=-55)])
def test_silence_alone_leaves_nothing(silence: Samples) -> None:
    assert len(trimmed(silence)) == 0


def test_nothing_leaves_nothing() -> None:
    assert len(ClauseTrimmer(HZ).finish()) == 0


def test_a_soft_ending_is_not_cut() -> None:
    """Above the level where sound ends, below the one where it starts."""
    soft = quiet(0.1, db=-48)
    assert len(trimmed(voice_like(0.2, HZ), soft, quiet(0.5))) / HZ >= 0.3


def test_the_first_sound_is_not_delayed() -> None:
    trimmer = ClauseTrimmer(HZ)
    got = trimmer.push(voice_like(0.1, HZ))
    assert len(got) / HZ >= 0.09


def test_leading_silence_and_held_silence_use_bounded_memory() -> None:
    trimmer = ClauseTrimmer(HZ)
    for _ in range(20):
        assert len(trimmer.push(quiet(1.0))) == 0
    assert len(trimmer._pre_roll) == HZ // 100
    trimmer.push(voice_like(0.1, HZ))
    released = sum(len(trimmer.push(quiet(1.0))) for _ in range(15))
    assert released / HZ == pytest.approx(15 - MAX_HELD_S, abs=0.1)


def test_the_callers_array_is_left_alone() -> None:
    sound = voice_like(0.2, HZ)
    before = sound.copy()
    trimmed(sound, size=len(sound))
    assert np.array_equal(sound, before)


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(0, 3_000), st.sampled_from([-90, -56, -20])), max_size=6),
    sizes=st.lists(st.integers(0, 700), min_size=1, max_size=5),
)
def test_any_chunking_gives_the_same_samples(
    parts: list[tuple[int, int]], sizes: list[int]
) -> None:
    empty = np.zeros(0, np.float32)
    sound = np.concatenate([empty, *(quiet(n / HZ, db) for n, db in parts)])
    whole = stream(ClauseTrimmer(HZ), [sound])
    assert np.array_equal(whole, stream(ClauseTrimmer(HZ), cut(sound, sizes)))
