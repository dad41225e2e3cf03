"""An engine that is given up: whoever waits hears of it at once, whatever they wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest

from audio import recordings
from audio.sounds import tone
from vivavoce.engines.watch import TimeLimits
from vivavoce.errors import EngineFailed
from vivavoce.speech import clauses as wording
from vivavoce.speech.cloning import CLONES_AT_ONCE
from vivavoce.speech.encoding import encoded, threads_for
from vivavoce.speech.service import ServiceOptions, SpeechService
from vivavoce.testing.fake_engine import FakeEngine, FakeOptions
from vivavoce.types import AudioFormat, Recording, ReferenceAudio, SpeechRequest

HZ = 16_000
AT_ONCE_S = 1.0
SAID = SpeechRequest("Hello there.")

Caller: TypeAlias = "asyncio.Task[Any]"


@asynccontextmanager
async def serving(preload: bool = True, **chosen: Any) -> AsyncIterator[SpeechService]:
    options = {"cache_entries": 0} | {
        name: value for name, value in chosen.items() if name in ServiceOptions.__slots__
    }
    fake = {name: value for name, value in chosen.items() if name not in options}
    engine = FakeEngine(FakeOptions(**fake))
    service = SpeechService(engine, ServiceOptions(**options))
    await service.start(preload=preload)
    try:
        yield service
    finally:
        engine.faults.let_go()
        await service.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - any condition, not only events
            await asyncio.sleep(0.002)


def reference(number: int = 0) -> ReferenceAudio:
    return ReferenceAudio(tone(0.5, HZ, hz=200 + number), HZ)


def uploaded() -> Recording:
    async def read() -> bytes:
        return recordings.recording("wav")

    return Recording(read, None, "file")


async def speak(service: SpeechService, **fields: Any) -> None:
    async with service.open(SpeechRequest("Hello there.", **fields)) as stream:
        async for _ in stream:
            pass


@contextmanager
def all_busy(threads: Executor, count: int) -> Iterator[None]:
    """Keep a pool of ``count`` threads from what is asked of it."""
    go = threading.Event()
    held = [threads.submit(go.wait, 60) for _ in range(count)]
    try:
        yield
    finally:
        go.set()
        for each in held:
            each.result()


@dataclass
class Waiting:
    """Callers of a service, and how they are brought to where they wait."""

    service: SpeechService
    callers: list[Caller]

    def call(self, work: Awaitable[Any]) -> None:
        self.callers.append(asyncio.ensure_future(work))

    async def come(self, running: int, waiting: int = 0) -> None:
        admission = self.service.admission
        await until(lambda: (admission.running, admission.waiting) == (running, waiting))
        await asyncio.sleep(0.05)  # from the slot to where they wait


Place: TypeAlias = Callable[[Waiting], Any]


async def in_a_clone(waiting: Waiting) -> None:
    waiting.call(speak(waiting.service, reference=reference()))
    await waiting.come(1)


async def for_a_turn_to_clone(waiting: Waiting) -> None:
    for number in range(CLONES_AT_ONCE + 2):
        waiting.call(speak(waiting.service, reference=reference(number)))
    await waiting.come(CLONES_AT_ONCE + 2)


async def for_a_slot_that_a_clone_has(waiting: Waiting) -> None:
    await in_a_clone(waiting)
    waiting.call(speak(waiting.service))
    waiting.call(speak(waiting.service, reference=reference(1)))
    waiting.call(waiting.service.save_voice("anna", reference(2)))
    await waiting.come(1, 3)


async def in_a_clone_to_be_saved(waiting: Waiting) -> None:
    waiting.call(waiting.service.save_voice("anna", reference()))
    await waiting.come(1)


async def in_decoding(waiting: Waiting) -> None:
    async def decode(*_: Any, **__: Any) -> bytes:
        await asyncio.Event().wait()
        return b""

    waiting.service.cloning.decoder.decode = decode  # type: ignore[method-assign]
    waiting.call(speak(waiting.service, reference=uploaded()))
    waiting.call(waiting.service.save_voice("anna", uploaded()))
    await waiting.come(2)


async def for_the_recording_to_be_read(waiting: Waiting) -> None:
    async def read() -> bytes:
        await asyncio.Event().wait()
        return b""

    waiting.call(speak(waiting.service, reference=Recording(read, None, "file")))
    await waiting.come(1)


async def in_writing(waiting: Waiting) -> None:
    waiting.call(waiting.service.save_voice("anna", reference()))
    await waiting.come(1)


async def for_the_engine(waiting: Waiting) -> None:
    waiting.call(speak(waiting.service))
    await waiting.come(1)


async def for_a_client_that_reads_nothing(waiting: Waiting) -> None:
    async def read_nothing() -> None:
        async with waiting.service.open(SAID) as stream:
            await anext(stream)
            await asyncio.Event().wait()

    waiting.call(read_nothing())
    await waiting.come(1)


async def for_a_slot_for_remembered_speech(waiting: Waiting) -> None:
    service = waiting.service
    await speak(service)

    async def hold() -> None:
        async with service.open(SAID):
            await asyncio.Event().wait()

    waiting.call(hold())
    waiting.call(speak(service))
    await until(lambda: (service.remembering.running, service.remembering.waiting) == (1, 1))


@pytest.mark.parametrize(
    ("place", "options"),
    [
        (in_a_clone, {"fault": "clone:hang"}),
        (for_a_turn_to_clone, {"fault": "clone:hang", "capacity": 8}),
        (for_a_slot_that_a_clone_has, {"fault": "clone:hang", "capacity": 1}),
        (in_a_clone_to_be_saved, {"fault": "clone:hang"}),
        (in_decoding, {}),
        (for_the_recording_to_be_read, {}),
        (in_writing, {"fault": "voice_to_bytes:hang"}),
        (for_the_engine, {"fault": "step:hang~Hello"}),
        (for_the_engine, {"fault": "admit:hang~Hello"}),
        (for_the_engine, {"fault": "load:hang", "preload": False}),
        (for_a_client_that_reads_nothing, {}),
        (for_a_slot_for_remembered_speech, {"cache_entries": 4, "capacity": 1}),
    ],
)
async def test_nobody_waits_for_an_engine_that_was_given_up(
    place: Place, options: dict[str, Any]
) -> None:
    async with serving(**options) as service:
        waiting = Waiting(service, [])
        await place(waiting)
        assert not any(caller.done() for caller in waiting.callers)
        service.lifecycle.loop.condemn("It hangs.")
        ended, left = await asyncio.wait(waiting.callers, timeout=AT_ONCE_S)
        assert not left
        assert [type(caller.exception()) for caller in ended] == [EngineFailed] * len(ended)
        assert (service.admission.waiting, service.remembering.waiting) == (0, 0)


@pytest.mark.parametrize("remembered", [False, True])
async def test_nor_in_a_codec(remembered: bool) -> None:
    async with serving(cache_entries=4) as service:
        if remembered:
            await speak(service)

        async def encode() -> None:
            async with service.open(SAID) as stream:
                assert stream.timings.cached == remembered
                target = AudioFormat("mp3", 24_000)
                async for _ in encoded(stream, stream.sample_rate_hz, target):
                    pass

        threads = threads_for(remembered=remembered)
        with all_busy(threads, threads._max_workers):  # type: ignore[attr-defined]
            calling = asyncio.create_task(encode())
            await asyncio.sleep(0.1)
            assert not calling.done()
            service.lifecycle.loop.condemn("It hangs.")
            async with asyncio.timeout(AT_ONCE_S):
                with pytest.raises(EngineFailed):
                    await calling


async def test_nor_for_its_text_to_be_read() -> None:
    async with serving() as service:
        long = SpeechRequest("<speak>" + "Hello there. " * 50 + "</speak>", ssml=True)

        async def call() -> None:
            async with service.open(long):
                pass

        with all_busy(wording._thread, 1):
            calling = asyncio.create_task(call())
            await asyncio.sleep(0.1)
            assert not calling.done()
            service.lifecycle.loop.condemn("It hangs.")
            async with asyncio.timeout(AT_ONCE_S):
                with pytest.raises(EngineFailed):
                    await calling


async def test_a_clone_that_hangs_ends_all_who_wait_behind_it_by_itself() -> None:
    """As its watch finds it: nobody has to condemn the engine from outside."""
    limits = TimeLimits(clone_s=0.1)
    async with serving(fault="clone:hang", capacity=1, engine_limits=limits) as service:
        waiting = Waiting(service, [])
        waiting.call(speak(service, reference=reference()))
        waiting.call(speak(service))
        waiting.call(service.save_voice("anna", reference(1)))
        ended, left = await asyncio.wait(waiting.callers, timeout=2)
        assert not left
        assert [type(caller.exception()) for caller in ended] == [EngineFailed] * 3
        assert service.admission.running == 1, "the thread that hangs still has the engine"


async def test_speech_that_is_all_made_and_taken_is_left_to_its_end() -> None:
    async with serving() as service, service.open(SAID) as stream:
        async for chunk in stream:
            if chunk.last:
                break
        service.lifecycle.loop.condemn("It hangs.")
        await asyncio.sleep(0.05)  # the last bytes are sent
        assert stream.outcome == "ok"


async def test_a_failure_ends_a_call_once_and_is_counted_once() -> None:
    outcomes: list[str] = []
    async with serving(fault="step:hang~Hello") as service:
        service.observer.finished = lambda outcome, *_: outcomes.append(outcome)  # type: ignore[method-assign]
        calling = asyncio.create_task(speak(service))
        await asyncio.sleep(0.1)
        service.lifecycle.loop.condemn("It hangs.")
        with pytest.raises(EngineFailed):
            await calling
        assert outcomes == ["rejected"]
