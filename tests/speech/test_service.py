"""The speech service on the fake engine: order, look-ahead, cancel, limits, cache, cloning."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audio.sounds import tone
from vivavoce.errors import (
    Busy,
    DeadlineExceeded,
    Draining,
    EmptyInput,
    EngineError,
    EngineFailed,
    InputError,
    InputTooLong,
    RunawayOutput,
    SlowConsumer,
    Starting,
    UnknownVoice,
    Unsupported,
)
from vivavoce.speech.observer import Outcome, SpeechObserver
from vivavoce.speech.service import ServiceOptions, SpeechService
from vivavoce.speech.stream import StreamLimits
from vivavoce.testing.fake_engine import FakeEngine, FakeOptions
from vivavoce.text import Lexicon
from vivavoce.types import AudioChunk, ReferenceAudio, Sampling, SpeechRequest, Timings, Utterance

TEXT = "First comes this. Then there is that. And in the end, a third."
SAID = SpeechRequest(TEXT)


class Witness(SpeechObserver):
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.underruns = 0

    def finished(self, outcome: Outcome, timings: Timings, transport: str) -> None:
        self.outcomes.append(outcome)

    def underrun(self) -> None:
        self.underruns += 1


@asynccontextmanager
async def serving(
    options: ServiceOptions | None = None, **fake: Any
) -> AsyncIterator[SpeechService]:
    service = SpeechService(FakeEngine(FakeOptions(**fake)), options, Witness())
    await service.start()
    try:
        yield service
    finally:
        await service.close()


async def speak(service: SpeechService, text: str = TEXT, **how: Any) -> np.ndarray:
    async with service.open(SpeechRequest(text, **how)) as stream:
        return np.concatenate([chunk.samples async for chunk in stream])


async def chunks_of(service: SpeechService, request: SpeechRequest) -> list[AudioChunk]:
    async with service.open(request) as stream:
        return [chunk async for chunk in stream]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - any condition, not only events
            await asyncio.sleep(0.001)


def engine_of(service: SpeechService) -> FakeEngine:
    assert isinstance(service.engine, FakeEngine)
    return service.engine


def count_admissions(engine: FakeEngine) -> list[str]:
    """The texts of the utterances that the engine is given from now on."""
    texts: list[str] = []
    admit = engine.admit

    def counting(utterance: Utterance) -> int:
        texts.append(utterance.text)
        return admit(utterance)

    engine.admit = counting  # type: ignore[method-assign]
    return texts


def outcomes(service: SpeechService) -> list[Outcome]:
    assert isinstance(service.observer, Witness)
    return service.observer.outcomes


def idle(service: SpeechService) -> bool:
    admission = service.admission
    return (admission.running, admission.waiting, service.lifecycle.loop.live) == (0, 0, 0)


async def test_a_text_is_spoken_whole_and_the_books_close() -> None:
    async with serving() as service:
        sound = await speak(service)
        assert len(sound) / 24_000 > len(TEXT) * 0.06 * 0.8
        assert outcomes(service) == ["ok"]
        await until(lambda: idle(service))


async def test_clauses_keep_their_order_and_only_the_end_is_last() -> None:
    async with serving() as service:
        chunks = await chunks_of(service, SpeechRequest(TEXT))
        clauses = [chunk.clause for chunk in chunks]
        assert clauses == sorted(clauses)
        assert set(clauses) == set(range(max(clauses) + 1))
        assert max(clauses) >= 2
        assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


async def test_sentence_mode_gives_a_chunk_a_clause() -> None:
    async with serving(ServiceOptions(cache_entries=0)) as service:
        by_token = await speak(service)
        chunks = await chunks_of(service, SpeechRequest(TEXT, stream_mode="sentence"))
        sounding = [chunk.clause for chunk in chunks if not chunk.last]
        assert sounding == sorted(set(sounding))
        joined = np.concatenate([chunk.samples for chunk in chunks])
        np.testing.assert_array_equal(joined, by_token)


async def test_the_next_clause_is_made_while_this_one_is_delivered() -> None:
    async with serving(ServiceOptions(cache_entries=0)) as service:
        opened = count_admissions(engine_of(service))
        async with service.open(SpeechRequest(TEXT * 5)) as stream:
            await anext(stream)
            await asyncio.sleep(0.3)
            assert len(opened) == 2, "the one being delivered and the next, no more"
            remaining = [chunk.clause async for chunk in stream]
        assert len(opened) == max(remaining) + 1


async def test_closing_frees_everything_within_a_step() -> None:
    async with serving(step_ms=3) as service:
        async with service.open(SpeechRequest("word " * 300)) as stream:
            await anext(stream)
        steps = engine_of(service).steps
        await until(lambda: idle(service))
        assert engine_of(service).steps - steps <= 1
        assert outcomes(service) == ["cancelled"]


async def test_cancelling_the_task_frees_everything() -> None:
    async with serving(step_ms=3) as service:
        task = asyncio.create_task(speak(service, "word " * 300))
        await until(lambda: service.lifecycle.loop.live == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: idle(service))
        assert outcomes(service) == ["cancelled"]


async def test_a_full_house_refuses_and_recovers() -> None:
    options = ServiceOptions(capacity=1, max_waiting=0, cache_entries=0)
    async with serving(options, step_ms=2) as service:
        async with service.open(SpeechRequest(TEXT)) as stream:
            await anext(stream)
            with pytest.raises(Busy):
                await speak(service)
        assert len(await speak(service)) > 0
        assert outcomes(service) == ["rejected", "cancelled", "ok"]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (SpeechRequest(""), EmptyInput),
        (SpeechRequest(" \n\t "), EmptyInput),
        (SpeechRequest("?!... --- ,,,"), EmptyInput),
        (SpeechRequest("x" * 20_001), InputTooLong),
        (SpeechRequest("hello", voice="nobody"), UnknownVoice),
        (SpeechRequest("hello", speed=0.0), InputError),
        (SpeechRequest("hello", speed=float("nan")), InputError),
        (SpeechRequest("hello", language="klingonese!"), InputError),
        (SpeechRequest("hello", options={"unheard_of": 1}), InputError),
        (SpeechRequest("<speak>oops", ssml=True), InputError),
    ],
)
async def test_bad_requests_are_refused_without_a_slot(
    request_: SpeechRequest, error: type[Exception]
) -> None:
    async with serving() as service:
        steps = engine_of(service).steps
        with pytest.raises(error):
            await chunks_of(service, request_)
        assert idle(service)
        assert engine_of(service).steps == steps
        assert outcomes(service) == ["invalid"]


@pytest.mark.parametrize(("word", "error"), [("failword", EngineError), ("nanword", EngineError)])
async def test_a_failing_utterance_fails_alone(word: str, error: type[Exception]) -> None:
    async with serving(step_ms=1) as service:
        good = asyncio.create_task(speak(service))
        with pytest.raises(error):
            await speak(service, f"Here comes {word} now.")
        assert len(await good) > 0
        await until(lambda: idle(service))
        assert sorted(outcomes(service)) == ["engine_error", "ok"]


async def test_runaway_output_is_cut_and_said() -> None:
    async with serving() as service:
        with pytest.raises(RunawayOutput):
            await speak(service, "Huh runawayword?")
        await until(lambda: idle(service))


async def test_a_broken_engine_is_said_to_everybody() -> None:
    async with serving() as service:
        with pytest.raises(EngineFailed):
            await speak(service, "breakword")
        assert service.lifecycle.state == "failed"
        assert not service.lifecycle.ready
        with pytest.raises(EngineFailed):
            await speak(service)


async def test_the_request_timeout_ends_a_stream_visibly() -> None:
    limits = StreamLimits(request_timeout_s=0.2)
    async with serving(ServiceOptions(limits=limits), paced=True) as service:
        with pytest.raises(DeadlineExceeded):
            await speak(service)
        await until(lambda: idle(service))
        assert outcomes(service) == ["deadline"]


async def test_a_consumer_that_stays_away_loses_its_slot() -> None:
    limits = StreamLimits(stall_timeout_s=0.1)
    options = ServiceOptions(limits=limits, capacity=1, cache_entries=0)
    async with serving(options) as service:
        async with service.open(SpeechRequest(TEXT)) as stream:
            await anext(stream)
            await asyncio.sleep(0.3)
            with pytest.raises(SlowConsumer):
                await anext(stream)
        assert outcomes(service) == ["backpressure"]


async def test_the_cache_answers_the_second_time() -> None:
    async with serving() as service:
        first = await speak(service)
        steps = engine_of(service).steps
        second = await speak(service)
        assert engine_of(service).steps == steps
        np.testing.assert_allclose(second, first, atol=1 / 32_000)
        await speak(service, speed=1.5)
        assert engine_of(service).steps > steps


async def test_a_cancelled_stream_is_not_remembered() -> None:
    async with serving() as service:
        async with service.open(SpeechRequest(TEXT)) as stream:
            await anext(stream)
        whole = await speak(service)
        assert len(whole) / 24_000 > len(TEXT) * 0.06 * 0.8


async def test_speed_is_stretched_where_the_engine_has_none() -> None:
    async with serving(speed=False) as service:
        usual = await speak(service)
        for speed in (0.5, 2.0):
            lengths = len(usual) / len(await speak(service, speed=speed))
            assert lengths == pytest.approx(speed, rel=0.05)


async def test_what_the_engine_cannot_use_is_named() -> None:
    async with serving(expressive=False) as service:
        request = SpeechRequest(
            "hello", instructions="whisper", sampling=Sampling(temperature=1.0, seed=1)
        )
        async with service.open(request) as stream:
            assert stream.ignored == ("instructions", "temperature")


async def test_a_clone_speaks_and_is_computed_once() -> None:
    reference = ReferenceAudio(tone(0.5, 16_000), 16_000)
    async with serving(ServiceOptions(cache_entries=0)) as service:
        own = await speak(service, "hello there")
        cloned = await speak(service, "hello there", reference=reference)
        assert len(cloned) == len(own)
        assert not np.allclose(cloned, own, atol=0.01)
        await speak(service, "hello there", reference=reference)
        assert service.voices.hits == 1


async def test_a_saved_voice_speaks_by_name(tmp_path: Path) -> None:
    reference = ReferenceAudio(tone(0.5, 16_000), 16_000)
    async with serving(ServiceOptions(voices_folder=tmp_path)) as service:
        await service.save_voice("anna", reference, "")
        assert len(await speak(service, "hello there", voice="anna")) > 0


async def test_an_engine_that_cannot_clone_says_so() -> None:
    reference = ReferenceAudio(np.ones(1000, np.float32), 16_000)
    async with serving(cloning=False) as service:
        with pytest.raises(Unsupported):
            await speak(service, reference=reference)
        with pytest.raises(Unsupported):
            await service.save_voice("anna", reference, "")
        assert idle(service)


async def test_not_ready_before_sound_was_made_and_not_after_draining() -> None:
    service = SpeechService(FakeEngine(FakeOptions(load_ms=100)))
    starting = asyncio.create_task(service.start())
    await asyncio.sleep(0.02)
    with pytest.raises(Starting):
        service.prepare(SpeechRequest("hello"))
    assert not service.lifecycle.ready
    await starting
    assert service.lifecycle.ready
    service.lifecycle.drain()
    assert not service.lifecycle.ready
    with pytest.raises(Draining):
        service.prepare(SpeechRequest("hello"))
    await service.close()


async def test_idle_unloads_and_the_next_request_loads_again() -> None:
    async with serving(ServiceOptions(idle_timeout_s=0.05, cache_entries=0)) as service:
        await speak(service)
        await until(lambda: not engine_of(service).loaded)
        assert service.lifecycle.ready
        first, second = await asyncio.gather(speak(service), speak(service))
        np.testing.assert_array_equal(first, second)
        assert engine_of(service).loaded


async def test_without_preload_the_first_request_loads() -> None:
    service = SpeechService(FakeEngine())
    await service.start(preload=False)
    assert not engine_of(service).loaded
    assert len(await speak(service)) > 0
    await service.close()


async def test_paced_streams_do_not_run_dry() -> None:
    async with serving(ServiceOptions(cache_entries=0)) as service:
        texts = [f"Caller number {n} speaks. And goes on a bit." for n in range(20)]
        await asyncio.gather(*(speak(service, text) for text in texts))
        assert isinstance(service.observer, Witness)
        assert service.observer.underruns == 0


@pytest.mark.parametrize("language", ["en", "English", "en-GB", "EN", "auto", None])
async def test_a_language_may_be_given_in_any_usual_form(language: str | None) -> None:
    async with serving() as service:
        voice = replace(service.engine.voices()[0], languages=("en-US",))
        service.guarded.voices = lambda: [voice]  # type: ignore[method-assign]
        assert service.prepare(SpeechRequest("hello", language=language)).language == "en"
        with pytest.raises(Unsupported, match="it speaks en"):
            service.prepare(SpeechRequest("hallo", language="German"))


# Remembered speech: slots and places of its own.


async def test_remembered_speech_is_let_in_as_everything_else_is() -> None:
    options = ServiceOptions(capacity=2, max_waiting=1)
    async with serving(options) as service, AsyncExitStack() as open_:
        await speak(service)
        streams = [await open_.enter_async_context(service.open(SAID)) for _ in range(2)]
        assert all(stream.timings.cached for stream in streams)
        assert service.remembering.running == 2
        waiting = asyncio.create_task(speak(service))
        await until(lambda: service.remembering.waiting == 1)
        with pytest.raises(Busy) as caught:
            await speak(service)
        assert caught.value.retry_after_ms > 0
        assert service.admission.running == 0, "the engine's slots are for those who need it"
        assert len(await speak(service, "Somebody live.")) > 0
        await open_.aclose()
        assert len(await waiting) > 0
        assert (service.remembering.running, service.remembering.waiting) == (0, 0)
        assert outcomes(service).count("rejected") == 1


async def test_remembered_speech_leaves_its_slot_however_it_ends() -> None:
    async with serving(ServiceOptions(capacity=1, max_waiting=0)) as service:
        await speak(service)
        for _ in range(3):
            async with service.open(SAID) as stream:
                await anext(stream)
            assert service.remembering.running == 0
        task = asyncio.create_task(hold(service, SAID))
        await until(lambda: service.remembering.running == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert service.remembering.running == 0
        assert outcomes(service)[1:] == ["cancelled"] * 4


async def test_waiting_for_remembered_speech_ends_with_the_requests_time() -> None:
    limits = StreamLimits(request_timeout_s=0.2)
    async with serving(ServiceOptions(capacity=1, limits=limits)) as service:
        await speak(service, "Short.")
        said = SpeechRequest("Short.")
        async with service.open(said):
            with pytest.raises(DeadlineExceeded, match="No slot"):
                await chunks_of(service, said)


async def hold(service: SpeechService, request: SpeechRequest) -> None:
    async with service.open(request) as stream:
        await anext(stream)
        await asyncio.Event().wait()


async def test_the_wait_for_a_slot_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the admission, which knows it; reading a text and loading are no waiting in a queue."""
    asked: list[SpeechService] = []

    @asynccontextmanager
    async def waited(*_: Any) -> AsyncIterator[float]:
        yield 1.25

    async with serving() as service:
        await speak(service)
        for admission, text in ((service.remembering, TEXT), (service.admission, "Not yet.")):
            monkeypatch.setattr(admission, "slot", waited)
            async with service.open(SpeechRequest(text)) as stream:
                assert stream.timings.queue_ms == pytest.approx(1_250, abs=1_000)
                assert stream.timings.queue_ms >= 1_250
            asked.append(service)
    assert len(asked) == 2


async def test_who_finds_a_slot_has_not_waited() -> None:
    async with serving(ServiceOptions(capacity=1, cache_entries=0), step_ms=1) as service:
        async with service.open(SAID) as first:
            found_ms = first.timings.queue_ms
            second = asyncio.create_task(queue_ms_of(service, "The next."))
            await until(lambda: service.admission.waiting == 1)
            await asyncio.sleep(0.1)
        assert await second >= 100 + found_ms


async def queue_ms_of(service: SpeechService, text: str) -> float:
    async with service.open(SpeechRequest(text)) as stream:
        return stream.timings.queue_ms


# What a request brings along costs nobody anything for long.


async def test_large_lexicons_leave_memory_flat() -> None:
    """Half a megabyte each, and a word of sound in the cache."""
    async with serving(ServiceOptions(cache_bytes=1 << 20)) as service:
        tracemalloc.start()
        try:
            for number in range(12):
                words = {f"w{number}x{n}": f"{n} spoken " * 40 for n in range(1_000)}
                await speak(service, "Hi.", lexicon=words)
            del words
            gc.collect()
            left_bytes = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert service.cache.stats.entries == 12
        assert left_bytes < 3e6, "12 lexicons are 6 MB"


async def test_the_servers_lexicon_costs_a_request_nothing() -> None:
    entries = {f"word{number}": f"spoken {number}" for number in range(100_000)}
    many = Lexicon(entries, max_entries=len(entries))
    best_s = []
    for lexicon in (Lexicon({"one": "won"}), many):
        async with serving(ServiceOptions(lexicon=lexicon)) as service:
            await speak(service, "Hi.")
            taken_s = []
            for _ in range(30):
                began_s = time.perf_counter()
                async with service.open(SpeechRequest("Hi.", lexicon={"a": "b"})) as stream:
                    taken_s.append(time.perf_counter() - began_s)
                    async for _ in stream:
                        pass
            best_s.append(min(taken_s))
    assert best_s[1] < 3 * best_s[0] + 2e-3


async def test_a_clone_that_takes_too_long_is_not_said_to_be_a_slot_that_did() -> None:
    reference = ReferenceAudio(tone(0.5, 16_000), 16_000)
    limits = StreamLimits(request_timeout_s=0.2)
    async with serving(ServiceOptions(limits=limits)) as service:
        clone = service.engine.clone

        def slowly(given: ReferenceAudio) -> Any:
            time.sleep(0.4)
            return clone(given)

        service.engine.clone = slowly  # type: ignore[method-assign]
        with pytest.raises(DeadlineExceeded, match="Cloning"):
            await speak(service, reference=reference)


async def test_an_engine_that_loads_too_long_is_not_said_to_be_a_slot_that_does() -> None:
    options = ServiceOptions(limits=StreamLimits(request_timeout_s=0.1))
    service = SpeechService(FakeEngine(FakeOptions(load_ms=500)), options, Witness())
    await service.start(preload=False)
    try:
        with pytest.raises(DeadlineExceeded, match="not loaded within"):
            await speak(service)
        assert (service.admission.running, outcomes(service)) == (0, ["deadline"])
    finally:
        await service.close()


def spoken_by(engine: FakeEngine) -> list[Utterance]:
    """What the engine is given from now on."""
    given, admit = [], engine.admit

    def noted(utterance: Utterance) -> int:
        given.append(utterance)
        return admit(utterance)

    engine.admit = noted  # type: ignore[method-assign]
    return given


SHORT_FIRST = "Good evening to you. Then there is that. And in the end, a third."


async def test_an_engine_that_likes_groups_gets_them_after_the_first_sentence() -> None:
    async with serving(group_s=20.0) as service:
        given = spoken_by(engine_of(service))
        async with service.open(SpeechRequest(SHORT_FIRST)) as stream:
            chunks = [chunk async for chunk in stream]
        assert [each.text for each in given] == [
            "Good evening to you.",
            "Then there is that. And in the end, a third.",
        ]
        assert {chunk.clause for chunk in chunks} == {0, 1}
        assert stream.timings.clauses == 2
        alone = [each.max_audio_s or 0.0 for each in given]
        assert alone[1] > len(given[1].text) * 0.06, "the whole group may be spoken"


async def test_sentences_come_one_by_one_where_sound_leaves_so() -> None:
    async with serving(group_s=20.0) as service:
        given = spoken_by(engine_of(service))
        chunks = await chunks_of(service, SpeechRequest(SHORT_FIRST, stream_mode="sentence"))
        assert len(given) == 3 == len({chunk.clause for chunk in chunks})


async def test_groups_and_sentences_are_remembered_apart() -> None:
    async with serving(group_s=20.0) as service:
        given = spoken_by(engine_of(service))
        for mode in ("token", "sentence", "token", "sentence"):
            await speak(service, SHORT_FIRST, stream_mode=mode)
        assert len(given) == 2 + 3
        assert service.cache.stats.hits == 2


async def test_a_failure_in_a_group_comes_after_what_was_spoken_before() -> None:
    async with serving(group_s=20.0) as service:
        heard = []
        with pytest.raises(EngineError):
            async with service.open(SpeechRequest(f"{SHORT_FIRST} A failword.")) as stream:
                async for chunk in stream:
                    heard.append(chunk.clause)
        assert set(heard) >= {0, 1}
        assert outcomes(service) == ["engine_error"]


async def test_a_group_without_end_is_cut_off() -> None:
    async with serving(group_s=20.0, chunk_ms=1000.0) as service:
        with pytest.raises(RunawayOutput):
            await speak(service, f"{SHORT_FIRST} A runawayword.")
