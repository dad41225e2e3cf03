"""Cloning: few at once, each in a slot of the engine until its thread is back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audio import recordings
from audio.sounds import tone
from vivavoce.errors import (
    Busy,
    Conflict,
    DeadlineExceeded,
    EngineError,
    InvalidAudio,
    StorageFull,
    TooManyVoices,
)
from vivavoce.speech.cloning import CLONES_AT_ONCE
from vivavoce.speech.service import ServiceOptions, SpeechService
from vivavoce.speech.stream import StreamLimits
from vivavoce.testing.fake_engine import FakeEngine, FakeOptions
from vivavoce.types import Recording, ReferenceAudio, SpeechRequest, Voice

HZ = 16_000


class SlowCloner(FakeEngine):
    """Its clones wait for ``go``."""

    def __init__(self, options: FakeOptions | None = None) -> None:
        super().__init__(options)
        self.go = threading.Event()
        self.cloning = self.most = self.clones = 0
        self._counting = threading.Lock()

    def clone(self, reference: ReferenceAudio) -> Voice:
        with self._counting:
            self.cloning += 1
            self.clones += 1
            self.most = max(self.most, self.cloning)
        self.go.wait(60)
        with self._counting:
            self.cloning -= 1
        return super().clone(reference)


@pytest.fixture
def engine() -> Iterator[SlowCloner]:
    made = SlowCloner()
    yield made
    made.go.set()


@asynccontextmanager
async def serving(engine: FakeEngine, **options: Any) -> AsyncIterator[SpeechService]:
    service = SpeechService(engine, ServiceOptions(cache_entries=0, **options))
    await service.start()
    try:
        yield service
    finally:
        await service.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - any condition, not only events
            await asyncio.sleep(0.002)


def reference(number: int = 0) -> ReferenceAudio:
    return ReferenceAudio(tone(0.5, HZ, hz=200 + number), HZ)


def sent(data: bytes, reads: list[int] | None = None) -> Recording:
    """As an upload, which counts how often it is read."""

    async def read() -> bytes:
        if reads is not None:
            reads.append(len(data))
        return data

    return Recording(read, None, "audio_sample")


async def speak(service: SpeechService, how: ReferenceAudio | Recording) -> np.ndarray:
    async with service.open(SpeechRequest("Hello there.", reference=how)) as stream:
        return np.concatenate([chunk.samples async for chunk in stream])


async def leave(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def counts(service: SpeechService) -> tuple[int, int]:
    return service.admission.running, service.admission.waiting


async def test_an_upload_is_decoded_and_speaks() -> None:
    async with serving(FakeEngine()) as service:
        data = recordings.recording("opus")
        first = await speak(service, sent(data))
        np.testing.assert_array_equal(await speak(service, sent(data)), first)
        assert service.cloning.decoder.pool.started == 1


async def test_a_recording_that_was_cloned_before_is_not_decoded_again() -> None:
    async with serving(FakeEngine()) as service:
        await speak(service, sent(recordings.recording("wav")))
        service.cloning.decoder.decode = None  # type: ignore[method-assign,assignment]
        await speak(service, sent(recordings.recording("wav")))


async def test_nothing_is_read_or_decoded_before_there_is_a_slot(engine: SlowCloner) -> None:
    async with serving(engine, capacity=1, max_waiting=1) as service:
        first = asyncio.create_task(speak(service, reference()))
        await until(lambda: engine.cloning == 1)
        reads: list[int] = []
        waiting = asyncio.create_task(speak(service, sent(recordings.recording("wav"), reads)))
        await until(lambda: counts(service) == (1, 1))
        with pytest.raises(Busy):
            await speak(service, sent(recordings.recording("wav"), reads))
        with pytest.raises(Busy):
            await service.save_voice("anna", sent(recordings.recording("wav"), reads))
        assert reads == []
        assert service.cloning.decoder.pool.started == 0
        engine.go.set()
        await asyncio.gather(first, waiting)
        assert reads


async def test_a_clone_whose_caller_left_keeps_its_slot_until_it_has_ended(
    engine: SlowCloner,
) -> None:
    async with serving(engine, capacity=1, max_waiting=4) as service:
        first = asyncio.create_task(speak(service, reference(1)))
        await until(lambda: engine.cloning == 1)
        await leave(first)
        assert counts(service) == (1, 0)
        second = asyncio.create_task(speak(service, reference(2)))
        await until(lambda: counts(service) == (1, 1))
        assert service.cloning.longest_s > 0
        engine.go.set()
        assert len(await second)
        await until(lambda: counts(service) == (0, 0))
        assert engine.most == 1
        assert service.cloning.longest_s == 0


async def test_callers_who_leave_make_no_more_clones_than_there_are_slots(
    engine: SlowCloner,
) -> None:
    threads = threading.active_count()
    async with serving(engine, capacity=3, max_waiting=40) as service:
        for number in range(18):
            calling = asyncio.create_task(speak(service, reference(number)))
            await asyncio.sleep(0.01)
            await leave(calling)
        assert engine.cloning <= CLONES_AT_ONCE
        assert threading.active_count() <= threads + CLONES_AT_ONCE + 8
        assert service.admission.running <= 3
        engine.go.set()
        await until(lambda: counts(service) == (0, 0))
        assert len(await speak(service, reference()))


async def test_few_clone_at_once_and_the_others_wait_their_turn(engine: SlowCloner) -> None:
    async with serving(engine, capacity=16) as service:
        calls = [asyncio.create_task(speak(service, reference(number))) for number in range(8)]
        await until(lambda: engine.cloning == CLONES_AT_ONCE)
        engine.go.set()
        await asyncio.gather(*calls)
        assert engine.most == CLONES_AT_ONCE
        assert engine.clones == 8


async def test_two_who_send_the_same_are_cloned_once(engine: SlowCloner) -> None:
    engine.go.set()
    async with serving(engine, capacity=16) as service:
        await asyncio.gather(*(speak(service, reference()) for _ in range(3 * CLONES_AT_ONCE)))
        assert engine.clones <= CLONES_AT_ONCE


async def test_a_clone_that_hangs_is_told_to_its_caller_and_keeps_its_slot(
    engine: SlowCloner,
) -> None:
    limits = StreamLimits(request_timeout_s=0.2)
    async with serving(engine, capacity=1, limits=limits) as service:
        with pytest.raises(DeadlineExceeded, match="Cloning took longer"):
            await speak(service, reference())
        assert counts(service) == (1, 0)
        with pytest.raises(DeadlineExceeded, match="No slot"):
            await service.save_voice("anna", reference())
        engine.go.set()
        await until(lambda: counts(service) == (0, 0))


async def test_an_engine_is_not_unloaded_under_a_clone(engine: SlowCloner) -> None:
    async with serving(engine, capacity=2, idle_timeout_s=0.05) as service:
        calling = asyncio.create_task(speak(service, reference()))
        await until(lambda: engine.cloning == 1)
        await leave(calling)
        await asyncio.sleep(0.2)
        assert engine.loaded
        engine.go.set()
        await until(lambda: not engine.loaded)


async def test_closing_does_not_wait_for_a_clone_that_hangs(engine: SlowCloner) -> None:
    async with asyncio.timeout(15):
        async with serving(engine) as service:
            calling = asyncio.create_task(speak(service, reference()))
            await until(lambda: engine.cloning == 1)
            await leave(calling)


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, KeyError])
async def test_what_an_engine_raises_on_its_own_tells_nobody_anything(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def clone(_: ReferenceAudio) -> Voice:
        raise error("my card is four one one one")

    engine = FakeEngine()
    monkeypatch.setattr(engine, "clone", clone)
    async with serving(engine) as service:
        with pytest.raises(EngineError) as caught:
            await speak(service, reference())
        assert "four" not in caught.value.message
        assert not any("four" in record.getMessage() for record in caplog.records)
        assert counts(service) == (0, 0)
        monkeypatch.undo()
        assert len(await speak(service, reference()))


async def test_what_an_engine_refuses_names_the_field_of_the_upload(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def clone(_: ReferenceAudio) -> Voice:
        raise InvalidAudio("The recording lasts 0.5 s; at least 1 s is needed.")

    engine = FakeEngine()
    monkeypatch.setattr(engine, "clone", clone)
    async with serving(engine) as service:
        with pytest.raises(InvalidAudio, match="at least 1 s") as caught:
            await speak(service, sent(recordings.recording("wav")))
        assert caught.value.param == "audio_sample"


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (np.zeros(3 * HZ, np.float32), "silent"),
        (tone(0.02, HZ), "at least 0.25 s"),
        (tone(3.0, HZ, peak=4e-4), "too quiet"),
    ],
    ids=["silence", "20 ms", "below audibility"],
)
async def test_no_voice_is_made_of_what_cannot_be_heard(sound: np.ndarray, reason: str) -> None:
    async with serving(FakeEngine()) as service:
        upload = sent(recordings.written("wav", "pcm_f32le", sound, HZ))
        for way in (ReferenceAudio(sound, HZ), upload):
            with pytest.raises(InvalidAudio, match=reason):
                await speak(service, way)
            with pytest.raises(InvalidAudio, match=reason):
                await service.save_voice("anna", way)
        assert service.voices.saved() == ()


async def test_a_name_that_cannot_be_costs_no_slot_and_no_decoding() -> None:
    async with serving(FakeEngine(), max_saved_voices=1) as service:
        await service.save_voice("anna", reference())
        reads: list[int] = []
        for name, error in (("anna", Conflict), ("ANNA", Conflict), ("bert", TooManyVoices)):
            with pytest.raises(error):
                await service.save_voice(name, sent(recordings.recording("wav"), reads))
        assert reads == []


async def test_a_voice_that_cannot_be_written_gives_its_slot_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> bool:
        raise StorageFull("It cannot be saved: there is no room left for it.")

    async with serving(FakeEngine(), voices_folder=tmp_path) as service:
        with monkeypatch.context() as patch:
            patch.setattr(service.voices._store, "put_if_absent", full)
            with pytest.raises(StorageFull):
                await service.save_voice("anna", reference())
        assert counts(service) == (0, 0)
        assert (await service.save_voice("anna", reference())).id == "anna"


async def test_a_name_taken_while_the_clone_was_made_stays_the_others(
    engine: SlowCloner, tmp_path: Path
) -> None:
    async with serving(engine, voices_folder=tmp_path) as service:
        saving = [
            asyncio.create_task(service.save_voice("anna", reference(number))) for number in (1, 2)
        ]
        await until(lambda: engine.cloning == 2)
        engine.go.set()
        results = await asyncio.gather(*saving, return_exceptions=True)
        saved = [each for each in results if isinstance(each, Voice)]
        assert len(saved) == 1
        assert any(isinstance(each, Conflict) for each in results)
        assert service.voices.resolve("anna").data == saved[0].data
