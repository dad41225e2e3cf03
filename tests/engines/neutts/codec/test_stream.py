"""Codes that arrive one after another become the sound that all of them at once would be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.engines.neutts.codec.stream import HOP, SAMPLE_RATE_HZ, CodecStream, Codes, Schedule
from vivavoce.errors import EngineError
from vivavoce.testing.clicks import click_scores
from vivavoce.types import Samples

REFERENCE = np.arange(100, 140, dtype=np.int32)


class Local:
    """A decoder whose every code sounds after its neighbors up to ``reach`` codes away."""

    device = "cpu"

    def __init__(self, reach: int = 3, windows: tuple[int, ...] = ()) -> None:
        self.reach, self.windows, self.asked = reach, windows, list[int]()

    def decode(self, codes: Codes) -> Samples:
        self.asked.append(len(codes))
        padded = np.pad(codes.astype(np.float64), self.reach)
        mixed = sum(padded[i : i + len(codes)] * (i + 1) for i in range(2 * self.reach + 1))
        return np.repeat(mixed, HOP).astype(np.float32) + np.tile(np.arange(HOP), len(codes)) / HOP

    def close(self) -> None:
        pass


class Position:
    """A decoder that says where in its window each code stands."""

    device, windows = "cpu", ()

    def decode(self, codes: Codes) -> Samples:
        return np.repeat(np.arange(len(codes), dtype=np.float32), HOP)

    def close(self) -> None:
        pass


def _codes(count: int, seed: int = 0) -> Codes:
    return np.random.default_rng(seed).integers(0, 65_536, count).astype(np.int32)


def _spoken(stream: CodecStream, codes: Codes, together: int = 1) -> Samples:
    sound = []
    for start in range(0, len(codes), together):
        stream.push(codes[start : start + together])
        while stream.ready():
            sound.append(stream.advance())
    return np.concatenate([*sound, stream.finish()])


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 200),
    together=st.integers(1, 40),
    chunks=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    reference=st.integers(0, 40),
    windows=st.sampled_from([(), (16,), (24, 40, 80)]),
)
def test_pieces_are_the_whole(
    count: int, together: int, chunks: list[int], reference: int, windows: tuple[int, ...]
) -> None:
    codec, codes = Local(windows=windows), _codes(count)
    before = REFERENCE[:reference]
    schedule = Schedule(tuple(chunks), lookback=10, lookforward=5, crossfade=2)
    sound = _spoken(CodecStream(codec, before, schedule), codes, together)
    whole = Local().decode(np.concatenate([before, codes]))[reference * HOP :]
    assert len(sound) == HOP * count
    np.testing.assert_allclose(sound, whole, rtol=1e-5)


def test_first_sound_needs_the_first_chunk_and_its_lookforward() -> None:
    stream = CodecStream(Local(), REFERENCE, Schedule((8, 15), lookforward=5))
    stream.push(_codes(12))
    assert not stream.ready()
    stream.push(_codes(1))
    assert stream.ready()
    assert len(stream.advance()) == 8 * HOP
    assert (stream.next_chunk, stream.pending, stream.ready()) == (15, 5, False)


def test_windows_hold_reference_and_what_was_spoken() -> None:
    stream = CodecStream(Local(), REFERENCE, Schedule((8, 15, 25), lookback=25, lookforward=5))
    codes = _codes(200)
    stream.push(codes)
    first = stream.window()
    assert first.codes.tolist() == [*REFERENCE[-25:], *codes[:13]]
    assert (first.keep, first.chunk) == (25, 8)
    stream.accept(first, Local().decode(first.codes))
    second = stream.window(10)
    assert second.codes.tolist() == [*REFERENCE[-17:], *codes[: 8 + 10 + 5]]
    assert second.chunk == 10


def test_work_is_linear() -> None:
    asked = []
    for count in (500, 1000, 2000):
        codec = Local()
        _spoken(CodecStream(codec, REFERENCE), _codes(count))
        asked.append(sum(codec.asked))
    assert asked[2] - asked[1] == pytest.approx(2 * (asked[1] - asked[0]), rel=0.1)
    assert asked[2] < 1.7 * 2000


def test_fast_lengths_are_filled_from_the_left() -> None:
    codec = Local(windows=(40, 60, 90))
    _spoken(CodecStream(codec, REFERENCE), _codes(201))
    assert set(codec.asked) <= {40, 60, 90}


def test_short_history_takes_what_there_is() -> None:
    codec = Local(windows=(40,))
    stream = CodecStream(codec, REFERENCE[:2])
    stream.push(_codes(13))
    stream.advance()
    assert codec.asked == [15]


def test_the_rest_is_not_decoded_twice() -> None:
    codec = Local()
    stream = CodecStream(codec, REFERENCE, Schedule((8,), lookforward=5))
    stream.push(_codes(13))
    sound = stream.advance()
    rest = stream.end()
    assert (len(codec.asked), len(rest), stream.done) == (1, 5 * HOP, True)
    whole = Local().decode(np.concatenate([REFERENCE, _codes(13)]))
    np.testing.assert_allclose(np.concatenate([sound, rest]), whole[40 * HOP :], rtol=1e-5)


def test_the_end_while_a_window_is_open() -> None:
    codec = Local()
    stream = CodecStream(codec, REFERENCE, Schedule((8,), lookforward=5))
    stream.push(_codes(13))
    window = stream.window()
    assert len(stream.end()) == 0
    assert not stream.ready()
    assert len(stream.accept(window, codec.decode(window.codes))) == 13 * HOP
    assert stream.done


def test_codes_may_come_while_a_window_is_open() -> None:
    codec = Local()
    codes = _codes(60)
    stream = CodecStream(codec, REFERENCE, Schedule((8,), lookforward=5))
    stream.push(codes[:13])
    window = stream.window()
    stream.push(codes[13:])
    sound = [stream.accept(window, codec.decode(window.codes)), stream.finish()]
    whole = Local().decode(np.concatenate([REFERENCE, codes]))[40 * HOP :]
    np.testing.assert_allclose(np.concatenate(sound), whole, rtol=1e-5)


def test_seams_are_faded_over_two_codes() -> None:
    stream = CodecStream(Position(), REFERENCE, Schedule((8,), lookback=25, lookforward=5))
    sound = _spoken(stream, _codes(16))[8 * HOP :]
    # The window before has its code 33 there, the new one its code 25.
    np.testing.assert_allclose(sound[: 2 * HOP : HOP].round(1), [33.0, 29.5 + 0.5], atol=0.01)
    assert sound[HOP - 1] == pytest.approx((33 + 25) / 2, abs=0.01)
    assert np.all(sound[2 * HOP : 3 * HOP] == 27)


class _Sines:
    """A decoder of loudness and pitch by the code; its window's position shifts the level."""

    device, windows = "cpu", ()

    def decode(self, codes: Codes) -> Samples:
        at = np.arange(len(codes) * HOP)
        level = 0.3 + 0.1 * np.cos(at / len(at) * 3)
        return (level * np.cos(at * 2 * np.pi * 200 / SAMPLE_RATE_HZ)).astype(np.float32)

    def close(self) -> None:
        pass


def _loudest_seam(crossfade: int) -> float:
    # 120 codes of 20 ms are whole periods of 200 Hz, so only the level jumps.
    stream = CodecStream(_Sines(), REFERENCE, Schedule((8, 15, 25), crossfade=crossfade))
    sound = _spoken(stream, _codes(120))
    return float(click_scores(sound + _hiss(len(sound)), SAMPLE_RATE_HZ).max())


def _hiss(count: int) -> Samples:
    return np.random.default_rng(0).normal(0, 1e-3, count).astype(np.float32)


def test_no_seam_is_heard() -> None:
    assert _loudest_seam(0) > 5
    assert _loudest_seam(2) < 2.3


def test_a_window_of_another_length_is_an_error() -> None:
    stream = CodecStream(Local(), REFERENCE)
    stream.push(_codes(13))
    with pytest.raises(EngineError, match="samples"):
        stream.accept(stream.window(), np.zeros(HOP, np.float32))


@pytest.mark.parametrize(
    "wrong",
    [{"chunks": ()}, {"chunks": (0,)}, {"lookback": -1}, {"lookforward": 1}, {"crossfade": -1}],
)
def test_impossible_schedules_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Schedule(**wrong)  # type: ignore[arg-type]


def test_misuse_is_refused() -> None:
    stream = CodecStream(Local(), REFERENCE)
    with pytest.raises(ValueError, match="no window"):
        stream.window()
    stream.end()
    with pytest.raises(ValueError, match="after the end"):
        stream.push(_codes(1))
