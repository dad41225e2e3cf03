"""One request's stream: chunks in order, its clock, its limits, and what it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from types import SimpleNamespace

import numpy as np
import pytest

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
from vivavoce.speech.observer import Outcome, SpeechObserver
from vivavoce.speech.pipeline import Piece
from vivavoce.speech.stream import (
    MAX_HELD_BYTES,
    MAX_KEPT_BYTES,
    Source,
    SpeechStream,
    StreamLimits,
    cached_source,
    outcome_of,
)
from vivavoce.types import AudioChunk, Samples, Timings

RATE_HZ = 1_000
SECOND = RATE_HZ


def sound(count: int, level: float = 0.5) -> Samples:
    return np.full(count, level, np.float32)


def piece(count: int, clause: int = 0, *, ended: bool = False) -> Piece:
    return Piece(sound(count), clause, clause_ended=ended)


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


class Making:
    """A stream over pieces that are given; counts how often its source was closed."""

    def __init__(
        self,
        pieces: Iterable[Piece | Exception],
        tail: Samples | None = None,
        *,
        timings: Timings | None = None,
        **limits: float,
    ) -> None:
        self.witness = Witness()
        self.closed = 0
        self.pulled = 0
        self._pieces = list(pieces)
        rest = np.zeros(0, np.float32) if tail is None else tail
        source = Source(self._given(), lambda: rest, self._close, RATE_HZ)
        self.stream = SpeechStream(
            source, timings or Timings(), StreamLimits(**limits), self.witness
        )

    async def _given(self) -> AsyncIterator[Piece]:
        for each in self._pieces:
            self.pulled += 1
            if each is NEVER:
                await asyncio.Event().wait()
            if isinstance(each, Exception):
                raise each
            yield each

    def _close(self) -> None:
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
    made = Making([piece(1), piece(2, ended=True), piece(4, 1), piece(8, 1, ended=True)], sound(3))
    made.stream.by_clause = True
    chunks = await made.all()
    assert lengths(chunks) == [3, 12, 3]
    assert [chunk.clause for chunk in chunks[:2]] == [0, 1]


async def test_a_clause_too_long_to_be_held_leaves_in_parts_and_whole() -> None:
    count = 5 * MAX_HELD_BYTES // 4 // 2
    pieces = [Piece(sound(count // 10, n / 100), 0, clause_ended=False) for n in range(10)]
    made = Making([*pieces, piece(1, ended=True)])
    made.stream.by_clause = True
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
        made = Making([piece(count - 10), piece(10 + more), piece(5, ended=True)])
        made.stream.by_clause = True
        assert len(await made.all()) == parts + 1


async def test_the_first_chunk_is_timed_from_the_arrival(clock: Clock) -> None:
    made = Making([piece(10), piece(10)])
    made.stream.began_s = clock.now_s - 3.0
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


async def test_what_was_spoken_is_remembered_whole() -> None:
    kept: list[np.ndarray] = []
    made = Making([piece(3), piece(4)], sound(2, -1.0))
    made.stream.remember(kept.append, 1_000)
    await made.all()
    (pcm,) = kept
    assert pcm.dtype == np.int16
    assert pcm.tolist() == [16_384] * 7 + [-32_768] * 2


@pytest.mark.parametrize(("count", "remembered"), [(500, True), (501, False), (5_000, False)])
async def test_what_is_longer_than_may_be_kept_is_not(count: int, remembered: bool) -> None:
    kept: list[np.ndarray] = []
    made = Making([piece(100), piece(count - 100)])
    made.stream.remember(kept.append, 1_000)
    assert sum(lengths(await made.all())) == count
    assert [len(pcm) for pcm in kept] == ([count] if remembered else [])


async def test_no_cache_however_large_makes_a_stream_keep_more_than_its_bound() -> None:
    kept: list[np.ndarray] = []
    count = MAX_KEPT_BYTES // 2
    for more in (0, 1):
        made = Making([piece(count + more)])
        made.stream.remember(kept.append, 1 << 40)
        await made.all()
    assert [len(pcm) for pcm in kept] == [count]


@pytest.mark.parametrize("end", ["close", "fail"])
async def test_what_was_not_spoken_whole_is_not_remembered(end: str) -> None:
    kept: list[np.ndarray] = []
    made = Making([piece(3), EngineError("planted") if end == "fail" else piece(3)])
    made.stream.remember(kept.append, 1_000)
    await anext(made.stream)
    if end == "fail":
        with pytest.raises(EngineError):
            await anext(made.stream)
    made.stream.close()
    assert kept == []


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
    made = Making([NEVER], request_timeout_s=100.0)
    made.stream.began_s -= 100.1
    with pytest.raises(DeadlineExceeded, match="100 s"):
        await anext(made.stream)
    assert (made.stream.outcome, made.closed) == ("deadline", 1)
    in_time = Making([piece(3)], request_timeout_s=100.0)
    in_time.stream.began_s -= 90.0
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
    source = cached_source(pcm, RATE_HZ)
    pieces = [each async for each in source.pieces]
    assert [len(each.samples) for each in pieces] == [1_000, 1_000, 500]
    assert [(each.clause, each.clause_ended) for each in pieces] == [(0, False)] * 3
    whole = np.concatenate([each.samples for each in pieces])
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole * 32_768, pcm)
    assert len(source.finish()) == 0
    source.close()


def test_what_one_stream_may_keep_and_how_long_it_may_take_is_what_the_docs_say() -> None:
    assert MAX_KEPT_BYTES == MAX_HELD_BYTES == 4_194_304
    assert StreamLimits() == StreamLimits(request_timeout_s=300.0, stall_timeout_s=30.0)


@pytest.mark.parametrize(("arrived_ago_s", "spoken"), [(599.0, True), (700.0, False)])
async def test_the_deadline_is_a_span_and_no_time_of_day(
    clock: Clock, arrived_ago_s: float, spoken: bool
) -> None:
    made = Making([piece(3) if spoken else NEVER], request_timeout_s=600.0)
    made.stream.began_s = clock.now_s
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
    made = Making([piece(3)], request_timeout_s=600.0)
    made.stream.began_s = clock.now_s - 400.0
    before_s = asyncio.get_running_loop().time()
    await anext(made.stream)
    after_s = asyncio.get_running_loop().time()
    (when,) = asked
    assert before_s - 1e-6 <= when - 200.0 <= after_s + 1e-6


async def test_each_clause_may_be_held_up_to_the_same_limit() -> None:
    count = MAX_HELD_BYTES // 4
    made = Making([piece(10, ended=True), piece(count, 1), piece(5, 1, ended=True)])
    made.stream.by_clause = True
    assert lengths(await made.all()) == [10, count + 5, 0]


async def test_remembered_sound_by_clause_comes_whole() -> None:
    source = cached_source(np.full(2_500, 1_000, np.int16), RATE_HZ)
    stream = SpeechStream(source, Timings(), StreamLimits(), Witness())
    stream.by_clause = True
    assert lengths([chunk async for chunk in stream]) == [2_500]
