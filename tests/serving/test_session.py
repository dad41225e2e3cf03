"""One way from an order to sound: what is told, in which order, and to whom that is slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from vivavoce.engines.base import Produced
from vivavoce.errors import EmptyInput, InputError, SlowConsumer
from vivavoce.serving.session import (
    Done,
    Event,
    Session,
    Sound,
    SpeechOrder,
    Started,
    Words,
    invalid_counted,
)
from vivavoce.serving.waiting import SpoolSpace
from vivavoce.speech.observer import Outcome, SpeechObserver
from vivavoce.speech.service import ServiceOptions, SpeechService
from vivavoce.speech.stream import StreamLimits
from vivavoce.testing.fake_engine import FakeEngine
from vivavoce.types import SpeechRequest, Timings, WordTiming

ENGINE_HZ = 24_000


class Telling(FakeEngine):
    """Calls every piece that it makes a word, of its first half."""

    def step(self) -> Sequence[Produced]:
        told = []
        for piece in super().step():
            word = WordTiming("half", 0, len(piece.samples) // 2)
            told.append(replace(piece, words=(word,) if len(piece.samples) else ()))
        return told


class Witness(SpeechObserver):
    def __init__(self) -> None:
        self.finished_as: list[tuple[Outcome, str]] = []

    def finished(self, outcome: Outcome, timings: Timings, transport: str) -> None:
        self.finished_as.append((outcome, transport))


@asynccontextmanager
async def serving(**limits: float) -> AsyncIterator[tuple[SpeechService, Witness]]:
    witness = Witness()
    options = ServiceOptions(limits=StreamLimits(**limits))
    service = SpeechService(Telling(), options, witness)
    await service.start()
    try:
        yield service, witness
    finally:
        await service.close()


def order(text: str = "Hello there.", encoding: str = "pcm", hz: int | None = None) -> SpeechOrder:
    return SpeechOrder(SpeechRequest(text), encoding, hz, ("colour é",))


async def told(service: SpeechService, what: SpeechOrder) -> list[Event]:
    events: list[Event] = []

    async def receive(event: Event) -> None:
        events.append(event)

    await Session(service, "test", receive).speak(what)
    return events


async def test_started_then_sound_then_done() -> None:
    async with serving() as (service, witness):
        events = await told(service, order(hz=8_000))
        started, done = events[0], events[-1]
        assert isinstance(started, Started) and isinstance(done, Done)
        assert (started.format.sample_rate_hz, started.ignored) == (8_000, ["colour__"])
        assert started.timings is done.timings and started.size_bytes is None
        sound = [event for event in events if isinstance(event, Sound)]
        assert isinstance(events[1], Sound), "it starts with the first sound, not before"
        samples = sum(len(event.data) for event in sound) // 2
        assert samples == sound[-1].emitted_samples == round(done.timings.audio_s * 8_000)
        assert witness.finished_as == [("ok", "test")]


@pytest.mark.parametrize("hz", [ENGINE_HZ, 8_000])
async def test_words_come_with_or_after_their_sound(hz: int) -> None:
    async with serving() as (service, _):
        events = await told(service, order(hz=hz))
    emitted, ends = 0, []
    for event in events:
        if isinstance(event, Sound):
            emitted = event.emitted_samples
        if isinstance(event, Words):
            ends += [word.end_sample for word in event.words]
            assert max(ends) <= emitted + 1
    assert ends and ends == sorted(ends)


async def test_what_cannot_be_spoken_tells_nothing() -> None:
    async with serving() as (service, witness):
        events: list[Event] = []

        async def receive(event: Event) -> None:
            events.append(event)

        with pytest.raises(EmptyInput):
            await Session(service, "test", receive).speak(order("..."))
        assert events == []
        assert witness.finished_as == [("invalid", "test")]


async def test_a_receiver_that_takes_nothing_is_slow_and_holds_no_slot() -> None:
    async with serving(stall_timeout_s=0.05) as (service, _):

        async def receive(event: Event) -> None:
            if isinstance(event, Sound):
                await asyncio.Event().wait()

        with pytest.raises(SlowConsumer, match=r"0\.05 s"):
            await Session(service, "test", receive).speak(order())
        assert service.admission.running == 0


async def test_a_whole_is_told_with_its_size_after_its_slot_was_given_back() -> None:
    async with serving() as (service, _):
        events: list[Event] = []
        running: list[int] = []

        async def receive(event: Event) -> None:
            events.append(event)
            running.append(service.admission.running)

        async with SpoolSpace().file() as file:
            await Session(service, "test", receive).speak_whole(order(encoding="wav"), file)
        data = b"".join(event.data for event in events if isinstance(event, Sound))
        assert isinstance(events[0], Started) and events[0].size_bytes == len(data)
        assert int.from_bytes(data[40:44], "little") == len(data) - 44
        assert isinstance(events[-1], Done) and set(running) == {0}


async def test_what_is_refused_is_counted_once() -> None:
    async with serving() as (service, witness):
        with pytest.raises(InputError), invalid_counted(service, "test"):
            raise InputError("planted")
        assert witness.finished_as == [("invalid", "test")]
