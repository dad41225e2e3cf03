"""One request's stream: chunks in order, its clock, its limits, and what it keeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np
import pytest

from vivavoce.audio.stretch import TimeStretch
from vivavoce.errors import (
    Busy,
    DeadlineExceeded,
    EngineError,
    EngineFailed,
    InputTooLong,
    SlowConsumer,
    Starting,
    UnknownVoice,
    VivavoceError,
)
from vivavoce.speech import stream as stream_room
from vivavoce.speech.cache import ENTRY_BYTES, LARGEST_SHARE, MAX_KEPT_BYTES, AudioCache, Keeping
from vivavoce.speech.observer import Outcome, SpeechObserver
from vivavoce.speech.pipeline import ClauseAudio
from vivavoce.speech.request import Prepared
from vivavoce.speech.stream import (
    MAX_HELD_BYTES,
    RememberedSound,
    SpeechStream,
    StreamLimits,
    outcome_of,
)
from vivavoce.types import AudioChunk, Samples, SpeechRequest, Timings, WordTiming

RATE_HZ = 1_000
SECOND = RATE_HZ


def sound(count: int, level: float = 0.5) -> Samples:
    return np.full(count, level, np.float32)


def piece(count: int, clause: int = 0, *, ended: bool = False) -> ClauseAudio:
    return ClauseAudio(sound(count), clause, clause_ended=ended)


NEVER = piece(0)
"""Stands for sound that does not come."""


class Witness(SpeechObserver):
    def __init__(self) -> None:
        self.firsts = self.underruns = 0
        self.gaps_s: list[float] = []

    def first_audio(self, timings: Timings) -> None:
        self.firsts += 1

    def chunk_gap(self, gap_s: float) -> None:
        self.gaps_s.append(gap_s)

    def underrun(self) -> None:
        self.underruns += 1


class Clock:
    """The stream's clock, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 500.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stream_room, "time", made)
    return made


def ready(timings: Timings, *, by_clause: bool = False) -> Prepared:
    request = SpeechRequest("x", stream_mode="sentence" if by_clause else "token")
    return Prepared(request, None, None, (), timings)


class Making:
    """A stream over pieces that are given, and the sound that it is made of.

    ``by_clause``: for a request that wants its sound so; ``arrived_s``: when that came.
    """

    def __init__(
        self,
        pieces: Iterable[ClauseAudio | Exception],
        tail: Samples | None = None,
        *,
        timings: Timings | None = None,
        by_clause: bool = False,
        arrived_s: float | None = None,
        keeping: Keeping | None = None,
        **limits: float,
    ) -> None:
        self.witness = Witness()
        self.closed = 0
        self.pulled = 0
        timings = timings or Timings()
        timings.arrived_s = stream_room.time.monotonic() if arrived_s is None else arrived_s
        rest = np.zeros(0, np.float32) if tail is None else tail
        last = ClauseAudio(rest, max(timings.clauses - 1, 0), clause_ended=True, last=True)
        self._pieces = iter([*pieces, last])
        self.stream = SpeechStream(
            ready(timings, by_clause=by_clause),
            self,
            RATE_HZ,
            StreamLimits(**limits),
            self.witness,
            keeping=keeping,
        )

    def __aiter__(self) -> Making:
        return self

    async def __anext__(self) -> ClauseAudio:
        each = next(self._pieces)
        self.pulled += 1
        if each is NEVER:
            await asyncio.Event().wait()
        if isinstance(each, Exception):
            raise each
        return each

    def close(self) -> None:
        self.closed += 1

    async def all(self) -> list[AudioChunk]:
        return [chunk async for chunk in self.stream]


def lengths(chunks: Iterable[AudioChunk]) -> list[int]:
    return [len(chunk.samples) for chunk in chunks]


async def test_pieces_become_chunks_and_the_tail_is_the_last() -> None:
    made = Making([piece(3), piece(0), piece(4, 1)], sound(2), timings=Timings(clauses=2))
    chunks = await made.all()
    assert lengths(chunks) == [3, 4, 2]
    assert [chunk.last for chunk in chunks] == [False, False, True]
    assert [chunk.clause for chunk in chunks] == [0, 1, 1]
    assert {chunk.sample_rate_hz for chunk in chunks} == {RATE_HZ}
    assert (made.stream.outcome, made.closed) == ("ok", 1)
    assert made.stream.timings.audio_s == pytest.approx(9 / RATE_HZ)
    with pytest.raises(StopAsyncIteration):
        await anext(made.stream)


async def test_by_clause_each_chunk_is_a_clause() -> None:
    made = Making(
        [piece(1), piece(2, ended=True), piece(4, 1), piece(8, 1, ended=True)],
        sound(3),
        by_clause=True,
    )
    chunks = await made.all()
    assert lengths(chunks) == [3, 12, 3]
    assert [chunk.clause for chunk in chunks[:2]] == [0, 1]


async def test_a_clause_too_long_to_be_held_leaves_in_parts_and_whole() -> None:
    count = 5 * MAX_HELD_BYTES // 4 // 2
    pieces = [ClauseAudio(sound(count // 10, n / 100), 0) for n in range(10)]
    made = Making([*pieces, piece(1, ended=True)], by_clause=True)
    chunks = await made.all()
    assert len(chunks) == 4
    assert (
        max(chunk.samples.nbytes for chunk in chunks) <= MAX_HELD_BYTES + pieces[0].samples.nbytes
    )
    whole = np.concatenate([chunk.samples for chunk in chunks])
    np.testing.assert_array_equal(whole[:-1], np.concatenate([each.samples for each in pieces]))


async def test_exactly_what_may_be_held_is_held() -> None:
    count = MAX_HELD_BYTES // 4
    for more, parts in ((0, 1), (1, 2)):
        made = Making([piece(count - 10), piece(10 + more), piece(5, ended=True)], by_clause=True)
        assert len(await made.all()) == parts + 1


async def test_the_first_chunk_is_timed_from_the_arrival(clock: Clock) -> None:
    made = Making([piece(10), piece(10)], arrived_s=clock.now_s - 3.0)
    await anext(made.stream)
    assert made.stream.timings.first_audio_ms == pytest.approx(3_000)
    assert (made.witness.firsts, made.witness.gaps_s) == (1, [])
    clock.now_s += 0.25
    await anext(made.stream)
    assert made.witness.firsts == 1
    assert made.witness.gaps_s == [pytest.approx(0.25)]
    clock.now_s += 1.0
    await anext(made.stream)
    assert made.stream.timings.total_ms == pytest.approx(4_250)


@pytest.mark.parametrize(
    ("waits_s", "underruns"),
    [
        ([0.0, 0.0, 0.0], 0),
        ([0.9, 0.9, 0.9], 0),
        ([1.1, 0.0, 0.0], 1),
        ([0.0, 1.9, 0.0], 0),
        ([0.0, 2.1, 0.0], 1),
        ([1.5, 1.5, 1.5], 3),
        ([3.0, 0.9, 0.9], 1),
        ([0.0, 0.0, 3.1], 1),
    ],
)
async def test_an_underrun_is_a_chunk_after_playback_ran_dry(
    clock: Clock, waits_s: list[float], underruns: int
) -> None:
    """Chunks of a second; playback starts with the first, and after a gap with the next."""
    made = Making([piece(SECOND) for _ in range(4)])
    for wait_s in [7.0, *waits_s]:
        clock.now_s += wait_s
        await anext(made.stream)
    assert made.witness.underruns == underruns


async def test_silence_that_comes_late_is_no_underrun(clock: Clock) -> None:
    made = Making([piece(SECOND)])
    await anext(made.stream)
    clock.now_s += 60.0
    assert (await anext(made.stream)).last, "empty"
    assert made.witness.underruns == 0


KEY = b"key"


def cache_for(longest_bytes: int) -> AudioCache:
    """A cache that keeps sounds of so many bytes and no longer ones."""
    return AudioCache(1, (longest_bytes + ENTRY_BYTES) * LARGEST_SHARE)


def cached_length(cache: AudioCache) -> int | None:
    pcm = cache.get(KEY)
    return None if pcm is None else len(pcm)


async def test_what_was_spoken_is_remembered_whole() -> None:
    cache = cache_for(1_000)
    made = Making([piece(3), piece(4)], sound(2, -1.0), keeping=Keeping(cache, KEY))
    await made.all()
    pcm = cache.get(KEY)
    assert pcm is not None
    assert pcm.dtype == np.int16
    assert pcm.tolist() == [16_384] * 7 + [-32_768] * 2


@pytest.mark.parametrize(("count", "remembered"), [(500, True), (501, False), (5_000, False)])
async def test_what_is_longer_than_may_be_kept_is_not(count: int, remembered: bool) -> None:
    cache = cache_for(1_000)
    made = Making([piece(100), piece(count - 100)], keeping=Keeping(cache, KEY))
    assert sum(lengths(await made.all())) == count
    assert cached_length(cache) == (count if remembered else None)


async def test_no_cache_however_large_makes_a_stream_keep_more_than_its_bound() -> None:
    count = MAX_KEPT_BYTES // 2
    for more in (0, 1):
        cache = cache_for(1 << 40)
        await Making([piece(count + more)], keeping=Keeping(cache, KEY)).all()
        assert cached_length(cache) == (None if more else count)


@pytest.mark.parametrize("end", ["close", "fail"])
async def test_what_was_not_spoken_whole_is_not_remembered(end: str) -> None:
    cache = cache_for(1_000)
    pieces = [piece(3), EngineError("planted") if end == "fail" else piece(3)]
    made = Making(pieces, keeping=Keeping(cache, KEY))
    await anext(made.stream)
    if end == "fail":
        with pytest.raises(EngineError):
            await anext(made.stream)
    made.stream.close()
    assert cached_length(cache) is None


ERRORS: list[tuple[VivavoceError, Outcome]] = [
    (EngineError("x"), "engine_error"),
    (InputTooLong(5, 4, spoken=True), "invalid"),
    (UnknownVoice("x", []), "invalid"),
    (DeadlineExceeded("x"), "deadline"),
    (SlowConsumer("x"), "backpressure"),
    (Busy("x", retry_after_ms=1), "rejected"),
    (Starting("x", retry_after_ms=1), "rejected"),
]


@pytest.mark.parametrize(("error", "outcome"), ERRORS, ids=lambda value: str(value)[:12])
async def test_an_error_ends_it_and_is_told_again(error: VivavoceError, outcome: Outcome) -> None:
    assert outcome_of(error) == outcome
    made = Making([piece(3), error, piece(3)])
    await anext(made.stream)
    for _ in range(2):
        with pytest.raises(type(error)):
            await anext(made.stream)
    assert (made.stream.outcome, made.closed, made.pulled) == (outcome, 1, 2)
    made.stream.close()
    assert made.stream.outcome == outcome


async def test_closing_it_early_is_a_cancel_and_harmless_twice() -> None:
    made = Making([piece(3), piece(3)])
    await anext(made.stream)
    made.stream.close()
    made.stream.close()
    assert made.stream.outcome == "cancelled"
    assert made.closed >= 1
    assert made.stream.timings.total_ms is not None
    with pytest.raises(StopAsyncIteration):
        await anext(made.stream)


async def test_the_deadline_counts_from_the_arrival() -> None:
    made = Making([NEVER], arrived_s=time.monotonic() - 100.1, request_timeout_s=100.0)
    with pytest.raises(DeadlineExceeded, match="100 s"):
        await anext(made.stream)
    assert (made.stream.outcome, made.closed) == ("deadline", 1)
    in_time = Making([piece(3)], arrived_s=time.monotonic() - 90.0, request_timeout_s=100.0)
    assert lengths(await in_time.all())[0] == 3


async def test_a_consumer_that_stays_away_ends_it() -> None:
    made = Making([piece(3), piece(3)], stall_timeout_s=0.05)
    await anext(made.stream)
    async with asyncio.timeout(10):
        while made.stream.outcome is None:  # noqa: ASYNC110 - a timer, not an event
            await asyncio.sleep(0.005)
    assert (made.stream.outcome, made.closed) == ("backpressure", 1)
    with pytest.raises(SlowConsumer, match=r"0\.05 s"):
        await anext(made.stream)


class Timers:
    """Stand for the event loop's timers, and know which are running."""

    def __init__(self) -> None:
        self.running: list[SimpleNamespace] = []
        self.begun = 0

    def call_later(self, *_: object) -> SimpleNamespace:
        self.begun += 1
        timer = SimpleNamespace()
        timer.cancel = lambda: self.running.remove(timer)
        self.running.append(timer)
        return timer


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    made = Timers()
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", made.call_later)
    return made


async def test_one_watch_runs_while_a_chunk_is_out_and_none_after_the_end(timers: Timers) -> None:
    made = Making([piece(3), piece(3)])
    made.stream.taken()
    assert timers.begun == 0, "nothing was given yet"
    for _ in range(2):
        await anext(made.stream)
        assert len(timers.running) == 1
    assert (await anext(made.stream)).last
    assert timers.running == []
    cut = Making([piece(3), piece(3)])
    await anext(cut.stream)
    cut.stream.close()
    assert timers.running == []
    cut.stream.taken()
    assert timers.running == [], "an ended stream has no watch"


async def test_a_consumer_that_takes_a_chunk_bit_by_bit_does_not_stay_away(timers: Timers) -> None:
    made = Making([piece(3)])
    await anext(made.stream)
    for count in range(2, 5):
        made.stream.taken()
        assert (timers.begun, len(timers.running)) == (count, 1)
    made.stream.close()


async def test_remembered_sound_comes_in_pieces_of_a_second() -> None:
    pcm = np.arange(-1_250, 1_250, dtype=np.int16)
    remembered = RememberedSound(pcm, RATE_HZ)
    pieces = [await anext(remembered) for _ in range(4)]
    assert [len(each.samples) for each in pieces] == [1_000, 1_000, 500, 0]
    assert [each.last for each in pieces] == [False, False, False, True]
    assert [(each.clause, each.clause_ended) for each in pieces[:3]] == [(0, False)] * 3
    whole = np.concatenate([each.samples for each in pieces])
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole * 32_768, pcm)
    remembered.close()


def test_what_one_stream_may_keep_and_how_long_it_may_take_is_what_the_docs_say() -> None:
    assert MAX_KEPT_BYTES == MAX_HELD_BYTES == 4_194_304
    assert StreamLimits() == StreamLimits(request_timeout_s=300.0, stall_timeout_s=30.0)


@pytest.mark.parametrize(("arrived_ago_s", "spoken"), [(599.0, True), (700.0, False)])
async def test_the_deadline_is_a_span_and_no_time_of_day(
    clock: Clock, arrived_ago_s: float, spoken: bool
) -> None:
    made = Making([piece(3) if spoken else NEVER], request_timeout_s=600.0)
    clock.now_s += arrived_ago_s
    if spoken:
        assert lengths(await made.all())[0] == 3
    else:
        with pytest.raises(DeadlineExceeded):
            await made.all()


async def test_a_gap_is_the_time_between_two_chunks(clock: Clock) -> None:
    made = Making([piece(3), piece(3), piece(3)])
    await anext(made.stream)
    for gap_s in (700.0, 0.5):
        clock.now_s += gap_s
        await anext(made.stream)
    assert made.witness.gaps_s == [700.0, 0.5]


@pytest.mark.parametrize(("clauses", "number"), [(0, 0), (1, 0), (3, 2)])
async def test_the_last_chunk_is_of_the_last_clause(clauses: int, number: int) -> None:
    made = Making([], timings=Timings(clauses=clauses))
    (last,) = await made.all()
    assert (last.last, last.clause) == (True, number)


async def test_it_is_given_up_once() -> None:
    made = Making([NEVER])
    assert made.stream.give_up(EngineFailed("It hangs.")) is True
    assert made.stream.give_up(EngineFailed("It hangs.")) is False
    assert made.stream.outcome == "rejected"


async def test_the_deadline_is_what_is_left_of_the_requests_time(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    real = asyncio.timeout_at
    monkeypatch.setattr(asyncio, "timeout_at", lambda when: asked.append(when) or real(when))
    made = Making([piece(3)], arrived_s=clock.now_s - 400.0, request_timeout_s=600.0)
    before_s = asyncio.get_running_loop().time()
    await anext(made.stream)
    after_s = asyncio.get_running_loop().time()
    (when,) = asked
    assert before_s - 1e-6 <= when - 200.0 <= after_s + 1e-6


async def test_each_clause_may_be_held_up_to_the_same_limit() -> None:
    count = MAX_HELD_BYTES // 4
    made = Making([piece(10, ended=True), piece(count, 1), piece(5, 1, ended=True)], by_clause=True)
    assert lengths(await made.all()) == [10, count + 5, 0]


async def test_remembered_sound_by_clause_comes_as_it_is_kept() -> None:
    """As it was kept: nothing of it has to be waited for."""
    remembered = RememberedSound(np.full(2_500, 1_000, np.int16), RATE_HZ)
    asked = ready(Timings(cached=True), by_clause=True)
    stream = SpeechStream(asked, remembered, RATE_HZ, StreamLimits(), Witness())
    assert lengths([chunk async for chunk in stream]) == [1_000, 1_000, 500, 0]


def words(*places: tuple[int, int]) -> tuple[WordTiming, ...]:
    return tuple(WordTiming(f"{n}", *each) for n, each in enumerate(places))


@pytest.mark.parametrize("by_clause", [False, True])
async def test_words_leave_with_their_sound(by_clause: bool) -> None:
    told = words((0, 2), (3, 5), (5, 7))
    pieces = [
        ClauseAudio(sound(3), 0, words=told[:1]),
        ClauseAudio(sound(0), 0, words=told[1:2]),
        ClauseAudio(sound(4), 0, clause_ended=True, words=told[2:]),
    ]
    chunks = await Making(pieces, by_clause=by_clause).all()
    assert [chunk.words for chunk in chunks] == (
        [told, ()] if by_clause else [told[:1], told[1:], ()]
    )


async def test_words_keep_their_sound_where_it_is_stretched() -> None:
    told = words((0, 200), (200, 400))
    pieces = [ClauseAudio(sound(400), 0, words=told), ClauseAudio(sound(0), 0, last=True)]
    made = Making([])
    made._pieces = iter(pieces)
    stretch, asked = TimeStretch(2.0, RATE_HZ), ready(Timings())
    stream = SpeechStream(asked, made, RATE_HZ, StreamLimits(), Witness(), stretch=stretch)
    chunks = [chunk async for chunk in stream]
    assert sum(lengths(chunks)) == 200
    assert sum((chunk.words for chunk in chunks), ()) == words((0, 100), (100, 200))
