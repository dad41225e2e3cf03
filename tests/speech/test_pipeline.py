"""From clauses to sound: order, look-ahead, deadlines, and the guard against sound without end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from vivavoce.audio.join import Joiner
from vivavoce.engines.base import Produced
from vivavoce.errors import EngineError, InputTooLong, RunawayOutput, VivavoceError
from vivavoce.speech import pipeline as pipeline_room
from vivavoce.speech.clauses import ClauseSource, WholeText
from vivavoce.speech.pipeline import LOOK_AHEAD_BYTES, ClauseAudio, ClausePipeline
from vivavoce.types import (
    Clause,
    FinishReason,
    Samples,
    Span,
    Timings,
    Utterance,
    Voice,
    WordTiming,
)

RATE_HZ = 1_000
VOICE = Voice(id="v", engine="fake")


class Stream:
    """What the engine's loop gives for an utterance, driven by hand."""

    def __init__(self, utterance: Utterance) -> None:
        self.utterance = utterance
        self.finish_reason: FinishReason | None = None
        self.on_finished: Callable[[], None] | None = None
        self.closed = 0
        self.error: VivavoceError | None = None
        self.waiting_bytes = 0
        self._waiting: deque[Produced] = deque()

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    def make(self, *lengths: int, level: float = 0.5, **told: object) -> None:
        for length in lengths:
            samples = np.full(length, level, np.float32)
            self._waiting.append(Produced(0, samples, **told))  # type: ignore[arg-type]
            self.waiting_bytes += samples.nbytes

    def end(self, reason: FinishReason = "stop") -> None:
        self.finish_reason = reason
        if self.on_finished is not None:
            self.on_finished()

    def close(self) -> None:
        self.closed += 1

    async def __anext__(self) -> Produced:
        if self._waiting:
            produced = self._waiting.popleft()
            self.waiting_bytes -= produced.samples.nbytes
            return produced
        if self.error is not None:
            raise self.error
        assert self.finished, "the test made too little"
        raise StopAsyncIteration


class Bench:
    """A pipeline over clauses, and the streams it has opened."""

    def __init__(
        self,
        clauses: list[Clause] | Iterator[Clause] | ClauseSource,
        max_audio_s: float | None = None,
        *,
        bounds_itself: bool = False,
    ) -> None:
        self.opened: list[Stream] = []
        self.timings = Timings()
        self._max_audio_s = max_audio_s
        self._bounds_itself = bounds_itself
        self.pipeline = ClausePipeline(
            clauses if isinstance(clauses, ClauseSource) else WholeText(iter(clauses)),
            self._utterance,
            self._open,  # type: ignore[arg-type]
            Joiner(RATE_HZ),
            RATE_HZ,
            self.timings,
        )

    def _utterance(self, clause: Clause, deadline_s: float) -> Utterance:
        return Utterance(
            clause.spans,
            VOICE,
            deadline_s=deadline_s,
            max_audio_s=self._max_audio_s,
            bounds_itself=self._bounds_itself,
        )

    def _open(self, utterance: Utterance) -> Stream:
        self.opened.append(Stream(utterance))
        return self.opened[-1]

    async def next(self, count: int = 1) -> list[ClauseAudio]:
        return [await anext(self.pipeline) for _ in range(count)]

    async def rest(self) -> list[ClauseAudio]:
        return [each async for each in self.pipeline if not each.last]


def clause(text: str, **more: object) -> Clause:
    return Clause((Span(text),), text, **more)  # type: ignore[arg-type]


def texts(bench: Bench) -> list[str]:
    return [stream.utterance.text for stream in bench.opened]


def sounding(pieces: list[ClauseAudio]) -> list[int]:
    """The clause of each piece with sound in it."""
    return [each.clause for each in pieces if np.any(each.samples)]


async def test_one_clause_ahead_and_never_two() -> None:
    bench = Bench([clause("one"), clause("two"), clause("three")])
    assert bench.opened == []
    bench.pipeline.start()
    assert texts(bench) == ["one"]
    bench.opened[0].make(50, 50)
    await bench.next()
    assert texts(bench) == ["one"], "the engine is still busy with it"
    bench.opened[0].end()
    assert texts(bench) == ["one", "two"]
    bench.opened[1].make(50)
    bench.opened[1].end()
    assert texts(bench) == ["one", "two"], "two are open"
    await bench.next(2)
    assert texts(bench) == ["one", "two", "three"]
    bench.opened[2].make(50)
    bench.opened[2].end()
    rest = await bench.rest()
    assert sorted(sounding(rest)) == sounding(rest)
    assert bench.timings.clauses == 3


async def test_the_next_clause_waits_while_much_of_this_one_does() -> None:
    bench = Bench([clause("one"), clause("two")])
    bench.pipeline.start()
    count = LOOK_AHEAD_BYTES // 4
    bench.opened[0].make(10, 10, count)
    bench.opened[0].end()
    assert texts(bench) == ["one"]
    await bench.next()
    assert texts(bench) == ["one"], "more than the bound waits"
    await bench.next()
    assert texts(bench) == ["one", "two"], "no more than the bound waits"


@pytest.mark.parametrize(("count", "opened"), [(0, 2), (1, 1)])
async def test_exactly_the_bound_may_wait(count: int, opened: int) -> None:
    bench = Bench([clause("one"), clause("two")])
    bench.pipeline.start()
    bench.opened[0].make(LOOK_AHEAD_BYTES // 4 + count)
    bench.opened[0].end()
    assert len(bench.opened) == opened


async def test_pieces_end_with_their_clause_and_carry_its_number() -> None:
    bench = Bench([clause("one"), clause("two")])
    bench.pipeline.start()
    bench.opened[0].make(50, 50)
    bench.opened[0].end()
    bench.opened[1].make(50)
    bench.opened[1].end()
    found = await bench.rest()
    assert [(each.clause, each.clause_ended) for each in found] == [
        (0, False), (0, False), (0, True), (1, False), (1, True),
    ]  # fmt: skip


async def test_a_pause_needs_no_engine() -> None:
    bench = Bench([Clause((), pause_ms=300.0), clause("one")])
    bench.pipeline.start()
    assert texts(bench) == ["one"]
    (pause,) = await bench.next()
    assert (len(pause.samples), pause.clause_ended) == (300, True)
    assert not np.any(pause.samples)


GUARD = [
    (3.0, 4.0, True), (3.0, 3.999, True), (3.0, 4.001, False), (3.0, 4.5, False),
    (3.0, 8.0, False), (0.5, 1.5, True), (0.5, 1.501, False), (None, 3_600.0, True),
]  # fmt: skip


@pytest.mark.parametrize(("limit_s", "made_s", "passes"), GUARD)
async def test_sound_is_cut_a_second_beyond_what_was_expected(
    limit_s: float | None, made_s: float, passes: bool
) -> None:
    bench = Bench([clause("one")], max_audio_s=limit_s)
    bench.pipeline.start()
    count = round(made_s * RATE_HZ)
    bench.opened[0].make(count // 2, count - count // 2)
    bench.opened[0].end()
    if passes:
        assert await bench.rest()
        return
    with pytest.raises(RunawayOutput, match=f"at most {limit_s:.1f} s") as caught:
        await bench.rest()
    assert "3 characters" in caught.value.message


async def test_each_clause_is_measured_by_itself() -> None:
    bench = Bench([clause("one"), clause("two")], max_audio_s=1.0)
    bench.pipeline.start()
    for number in range(2):
        bench.opened[number].make(1_900)
        bench.opened[number].end()
    assert sounding(await bench.rest())[-1] == 1


async def test_an_engine_that_broke_off_at_its_length_is_said() -> None:
    bench = Bench([clause("one")], max_audio_s=10.0)
    bench.pipeline.start()
    bench.opened[0].make(100)
    bench.opened[0].end("length")
    with pytest.raises(RunawayOutput, match=r"broke off after 0\.1 s of sound for 3 characters"):
        await bench.rest()


async def test_a_length_that_was_asked_for_is_no_failure() -> None:
    bench = Bench([clause("one")], max_audio_s=0.1, bounds_itself=True)
    bench.pipeline.start()
    bench.opened[0].make(9_000)
    bench.opened[0].end("length")
    assert await bench.rest()
    other = Bench([clause("one")], max_audio_s=0.1)
    other.pipeline.start()
    other.opened[0].make(9_000)
    with pytest.raises(RunawayOutput):
        await other.rest()


@pytest.mark.parametrize("level", [np.nan, np.inf])
async def test_sound_that_is_not_a_number_is_refused(level: float) -> None:
    bench = Bench([clause("one")])
    bench.pipeline.start()
    bench.opened[0].make(10, level=level)
    with pytest.raises(EngineError, match="not a number"):
        await bench.next()


async def test_an_engines_error_comes_after_the_sound_before_it() -> None:
    bench = Bench([clause("one")])
    bench.pipeline.start()
    bench.opened[0].make(50)
    bench.opened[0].error = EngineError("planted")
    await bench.next()
    with pytest.raises(EngineError, match="planted"):
        await bench.next()


async def test_a_text_that_fails_later_fails_in_its_turn() -> None:
    def failing() -> Iterator[Clause]:
        yield clause("one")
        raise InputTooLong(5, 4, spoken=True)

    bench = Bench(failing())
    bench.pipeline.start()
    bench.opened[0].make(50, 50)
    bench.opened[0].end()
    assert sounding(await bench.next(3))[:1] == [0]
    for _ in range(2):
        with pytest.raises(InputTooLong):
            await bench.next()


async def test_closing_closes_all_that_is_open_and_opens_nothing_more() -> None:
    bench = Bench([clause("one"), clause("two"), clause("three")])
    bench.pipeline.start()
    bench.opened[0].make(50)
    bench.opened[0].end()
    bench.pipeline.close()
    bench.pipeline.close()
    assert [stream.closed for stream in bench.opened] == [1, 1]
    bench.opened[1].end()
    assert len(bench.opened) == 2
    with pytest.raises(StopAsyncIteration):
        await bench.next()


async def test_a_pause_that_is_open_can_be_closed() -> None:
    bench = Bench([Clause((), pause_ms=300.0), clause("one")])
    bench.pipeline.start()
    bench.pipeline.close()
    assert [stream.closed for stream in bench.opened] == [1]


async def test_after_an_error_nothing_more_is_asked_of_the_text() -> None:
    class Failing:
        asked = 0

        def __iter__(self) -> Iterator[Clause]:
            return self

        def __next__(self) -> Clause:
            self.asked += 1
            if self.asked == 2:
                raise InputTooLong(5, 4, spoken=True)
            return clause("one")

    text = Failing()
    bench = Bench(iter(text))
    bench.pipeline.start()
    bench.opened[0].make(50)
    bench.opened[0].end()
    await bench.next(2)
    with pytest.raises(InputTooLong):
        await bench.next()
    assert text.asked == 2


async def test_what_the_engine_tells_is_summed() -> None:
    bench = Bench([clause("one")])
    bench.pipeline.start()
    first_s = bench.timings.arrived_s + 0.25
    bench.opened[0].make(10, stages_ms={"a": 1.5, "b": 2.0}, tokens=3, first_token_s=first_s)
    bench.opened[0].make(10, stages_ms={"a": 1.0}, tokens=2, first_token_s=first_s + 9)
    bench.opened[0].end()
    await bench.rest()
    assert bench.timings.stages_ms == {"a": 2.5, "b": 2.0}
    assert bench.timings.tokens == 5
    assert bench.timings.first_token_ms == pytest.approx(250.0)


class Clock:
    """The pipeline's clock, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


async def test_a_clause_is_due_when_the_sound_before_it_has_been_played(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(pipeline_room, "time", clock)
    bench = Bench([clause("one"), clause("two"), clause("three")])
    bench.pipeline.start()
    assert bench.opened[0].utterance.deadline_s == 100.0
    bench.opened[0].make(2_000)
    clock.now_s = 101.0
    given = len((await bench.next())[0].samples)
    bench.opened[0].end()
    assert bench.opened[1].utterance.deadline_s == pytest.approx(101.0 + given / RATE_HZ)
    await bench.next()
    bench.opened[1].make(3_000)
    clock.now_s = 200.0
    given = len((await bench.next())[0].samples)
    bench.opened[1].end()
    await bench.next()
    assert bench.opened[2].utterance.deadline_s == pytest.approx(200.0 + given / RATE_HZ), (
        "playback that ran dry goes on with the sound that came"
    )


async def test_time_spent_on_later_texts_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(pipeline_room, "time", clock)

    def slow() -> Iterator[Clause]:
        for text in ("one", "two"):
            clock.now_s += 0.5
            yield clause(text)

    bench = Bench(slow())
    bench.pipeline.start()
    bench.opened[0].end()
    assert bench.timings.normalize_ms == pytest.approx(1_000.0)


def quiet_then(count: int) -> Samples:
    return np.concatenate([np.zeros(500, np.float32), np.full(count, 0.5, np.float32)])


async def test_clauses_are_joined_with_their_natural_pause() -> None:
    bench = Bench([clause("one", end="clause"), clause("two", end="sentence")])
    bench.pipeline.start()
    bench.opened[0].make(200)
    bench.opened[0].end()
    bench.opened[1]._waiting.append(Produced(0, quiet_then(200)))
    bench.opened[1].end()
    whole = np.concatenate([each.samples for each in await bench.rest()])
    gap = np.flatnonzero(np.diff(np.flatnonzero(whole)) > 50)
    assert len(gap) == 1, "one pause"
    assert 500 < len(whole) < 560, "the leading silence is trimmed to a natural pause"


async def test_the_last_piece_is_what_the_joiner_has_kept() -> None:
    bench = Bench([clause("one"), clause("two")])
    bench.pipeline.start()
    for index in range(2):
        bench.opened[index].make(200)
        bench.opened[index].end()
    found = [each async for each in bench.pipeline]
    assert [each.last for each in found] == [False] * (len(found) - 1) + [True]
    assert found[-1].clause == 1 and not np.any(found[-1].samples) and len(found[-1].samples)


async def test_words_are_placed_in_the_whole_sound() -> None:
    bench = Bench([clause("one"), clause("two")])
    bench.pipeline.start()
    for index in range(2):
        told = (WordTiming(bench.opened[index].utterance.text, 100, 200),)
        bench.opened[index].make(300, words=told)
        bench.opened[index].end()
    found = await bench.rest()
    whole, words = (
        np.concatenate([each.samples for each in found]),
        [w for p in found for w in p.words],
    )
    second = len(whole) - 300
    assert words == [WordTiming("one", 100, 200), WordTiming("two", second + 100, second + 200)]
    assert np.all(whole[words[1].start_sample : words[1].end_sample] == 0.5)
