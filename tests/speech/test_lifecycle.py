"""Loading, unloading and the watch over them: nobody waits for ever, and nothing is done twice."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from vivavoce.engines.base import Produced
from vivavoce.engines.watch import Activity, TimeLimits
from vivavoce.errors import (
    Cancelled,
    Draining,
    EngineError,
    EngineFailed,
    ModelFileError,
    Starting,
    Unavailable,
    VivavoceError,
)
from vivavoce.speech import lifecycle as lifecycle_module
from vivavoce.speech.lifecycle import (
    CLOSE_BUSY_S,
    CLOSE_S,
    LOAD_FAILED,
    START_FAILED,
    SWITCH_S,
    UNLOAD_FAILED,
    Lifecycle,
)
from vivavoce.speech.observer import SpeechObserver
from vivavoce.testing.fake_engine import FakeEngine, FakeOptions
from vivavoce.types import Span, Utterance

BAD = Utterance((Span("badword"),), FakeEngine().voices()[0])
SHORT = TimeLimits(step_s=0.1, load_s=0.1, unload_s=0.1, clone_s=0.1)


class Counting(FakeEngine):
    """Counts loads and unloads, and says where a load runs on a loaded engine."""

    def __init__(self, **options: Any) -> None:
        super().__init__(FakeOptions(**options))
        self.loads = self.unloads = self.doubled = 0

    def load(self) -> None:
        self.loads += 1
        self.doubled += self.loaded
        super().load()

    def unload(self) -> None:
        self.unloads += 1
        super().unload()


@asynccontextmanager
async def alive(
    engine: FakeEngine, idle_s: float = 0.0, limits: TimeLimits | None = None, **start: Any
) -> AsyncIterator[Lifecycle]:
    lifecycle = Lifecycle(engine, SpeechObserver(), idle_s, limits)
    try:
        await lifecycle.start(**start)
        yield lifecycle
    finally:
        engine.faults.let_go()
        await lifecycle.close()


async def use(lifecycle: Lifecycle) -> None:
    await lifecycle.enter()
    lifecycle.leave()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - any condition, not only events
            await asyncio.sleep(0.002)


async def test_a_load_is_shared_and_goes_on_when_who_asked_for_it_leaves() -> None:
    engine = Counting(load_ms=200)
    async with alive(engine, preload=False) as lifecycle:
        impatient = [asyncio.create_task(lifecycle.enter()) for _ in range(3)]
        await until(lambda: engine.loads == 1)
        for each in impatient:
            each.cancel()
        await asyncio.wait(impatient)
        patient = [asyncio.create_task(lifecycle.enter()) for _ in range(3)]
        await asyncio.gather(*patient)
        assert lifecycle.state == "ready"
        assert (engine.loads, engine.doubled) == (1, 0)


async def test_a_load_that_everybody_left_is_finished_and_used_by_the_next() -> None:
    engine = Counting(load_ms=100)
    async with alive(engine, preload=False) as lifecycle:
        impatient = asyncio.create_task(lifecycle.enter())
        await until(lambda: engine.loads == 1)
        impatient.cancel()
        with suppress(asyncio.CancelledError):
            await impatient
        await until(lambda: lifecycle.state == "ready")
        await use(lifecycle)
        assert engine.loads == 1


async def test_a_load_that_everybody_left_starts_the_idle_clock() -> None:
    engine = Counting(load_ms=50)
    async with alive(engine, idle_s=0.05, preload=False) as lifecycle:
        impatient = asyncio.create_task(lifecycle.enter())
        await until(lambda: engine.loads == 1)
        impatient.cancel()
        await until(lambda: engine.unloads == 1)


@pytest.mark.parametrize("kind", ["raise", "memory", "gpu_memory", "exit"])
async def test_a_load_that_fails_fails_all_who_wait_and_the_next_caller_tries_again(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Counting(load_ms=50, fault=f"load:{kind}@once")
    async with alive(engine, preload=False) as lifecycle:
        results = await asyncio.gather(
            *(lifecycle.enter() for _ in range(3)), return_exceptions=True
        )
        assert {type(each) for each in results} == {EngineError}
        assert {str(each) for each in results} == {LOAD_FAILED}
        assert "load raised" in caplog.text
        assert lifecycle.loop.failure is None
        await use(lifecycle)
        assert engine.loads == 2


async def test_why_a_reload_fails_is_for_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine()

    def load() -> None:
        raise ModelFileError("/data/model.bin is damaged.")

    async with alive(engine, preload=False) as lifecycle:
        engine.load = load  # type: ignore[method-assign]
        with pytest.raises(EngineError) as caught:
            await lifecycle.enter()
        assert caught.value.message == LOAD_FAILED
        assert "/data/model.bin is damaged." in caplog.text


async def test_an_engine_that_does_not_prove_itself_is_not_loaded_twice() -> None:
    engine = Counting(fault="admit:raise@once")
    async with alive(engine, preload=False) as lifecycle:
        with pytest.raises(EngineError):
            await lifecycle.enter()
        await use(lifecycle)
        assert (engine.loads, engine.unloads, engine.doubled) == (2, 1, 0)


async def test_an_engine_without_a_voice_does_not_start() -> None:
    engine = FakeEngine()
    engine.voices = lambda: []  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="no voice"):
        async with alive(engine):
            pass


@pytest.mark.parametrize("kind", ["raise", "memory", "exit"])
async def test_an_unload_that_fails_is_a_failed_engine(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Counting(fault=f"unload:{kind}@once")
    async with alive(engine, idle_s=0.02) as lifecycle:
        await use(lifecycle)
        await until(lambda: lifecycle.state == "failed")
        with pytest.raises(EngineFailed) as caught:
            lifecycle.check_open()
        assert caught.value.message == UNLOAD_FAILED
        assert "unload raised" in caplog.text
        with pytest.raises(EngineFailed):
            await lifecycle.enter()


async def test_who_comes_while_it_is_unloaded_waits_for_the_load_after_it() -> None:
    engine = Counting()
    async with alive(engine, idle_s=0.01) as lifecycle:
        for _ in range(20):
            await use(lifecycle)
            await until(lambda: lifecycle.state == "unloaded")
        await lifecycle.enter()
        assert engine.loaded
        assert engine.doubled == 0
        lifecycle.leave()


async def test_without_preload_it_is_ready_once_the_files_were_found() -> None:
    engine = FakeEngine(FakeOptions(fault="check_files:hang"))
    lifecycle = Lifecycle(engine, SpeechObserver())
    starting = asyncio.create_task(lifecycle.start(preload=False))
    await until(lambda: engine.faults.faults[0].seen == 1)
    assert not lifecycle.ready
    with pytest.raises(Starting):
        lifecycle.check_open()
    engine.faults.let_go()
    await starting
    assert lifecycle.ready
    assert lifecycle.state == "unloaded"
    assert not engine.loaded
    await lifecycle.close()


async def test_without_the_files_it_does_not_become_ready_and_says_why() -> None:
    engine = FakeEngine()

    def missing() -> None:
        raise ModelFileError("There is no model here.")

    engine.check_files = missing  # type: ignore[method-assign]
    lifecycle = Lifecycle(engine, SpeechObserver())
    with pytest.raises(ModelFileError):
        await lifecycle.start(preload=False)
    assert not lifecycle.ready
    with pytest.raises(EngineFailed, match="There is no model here"):
        lifecycle.check_open()
    await lifecycle.close()


async def test_why_a_start_fails_is_not_told_in_words_of_others() -> None:
    engine = FakeEngine(FakeOptions(fault="load:raise"))
    with pytest.raises(RuntimeError):
        async with alive(engine):
            pass
    lifecycle = Lifecycle(engine, SpeechObserver())
    with pytest.raises(RuntimeError):
        await lifecycle.start()
    assert lifecycle.loop.failure is not None
    assert lifecycle.loop.failure.message == START_FAILED
    await lifecycle.close()


HANGS = {
    "check_files:hang": "looking for the model",
    "load:hang@2": "loading the model",
    "voices:hang@3": "loading the model",
    "unload:hang": "unloading the model",
    "admit:hang@3": "taking a request in",
}


@pytest.mark.parametrize("fault", HANGS)
async def test_a_hang_anywhere_is_seen_and_given_up_at_twice_its_limit(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine(FakeOptions(fault=fault))
    limits = TimeLimits(step_s=0.2, load_s=0.2, unload_s=0.2)
    lifecycle = Lifecycle(engine, SpeechObserver(), 0.02, limits)
    users = asyncio.create_task(keep_using(lifecycle))
    await until(lambda: lifecycle.loop.failure is not None)
    assert lifecycle.loop.failure is not None
    assert lifecycle.loop.failure.message.startswith(f"The engine has been {HANGS[fault]} for ")
    assert lifecycle.loop.failure.message.endswith("It was given up.")
    assert f"is late: The engine has been {HANGS[fault]}" in caplog.text
    with pytest.raises(VivavoceError):
        await asyncio.wait_for(users, 10)
    engine.faults.let_go()
    await lifecycle.close()


async def keep_using(lifecycle: Lifecycle) -> None:
    """Start, and load again and again, as one caller after the other does."""
    await lifecycle.start(preload=False)
    while True:
        await lifecycle.enter()
        lifecycle.leave()
        while lifecycle.state == "ready":  # noqa: ASYNC110 - the state is all there is
            await asyncio.sleep(0.002)
        lifecycle.check_open()


async def test_late_work_elsewhere_is_watched_too() -> None:
    engine = FakeEngine()
    async with alive(engine, limits=SHORT) as lifecycle:
        began_s = time.monotonic()
        lifecycle.watch(lambda: Activity("cloning a voice", 0.1, began_s))
        await until(lambda: lifecycle.late(0.5) is not None)
        await until(lambda: lifecycle.loop.failure is not None)
        assert "cloning a voice" in lifecycle.loop.failure.message


async def test_who_comes_while_the_engine_is_late_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lifecycle_module, "GIVEN_UP", 1e9)
    engine = FakeEngine(FakeOptions(fault="step:hang~badword"))
    async with alive(engine, limits=TimeLimits(step_s=0.3)) as lifecycle:
        stream = lifecycle.loop.open(BAD)
        await until(lambda: lifecycle.late() is not None)
        with pytest.raises(Unavailable, match="in one step"):
            lifecycle.check_open()
        engine.faults.let_go()
        await until(lambda: lifecycle.late() is None)
        lifecycle.check_open()
        stream.close()


async def test_a_late_engine_is_logged_once_while_it_is_late(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle_module, "WATCH_S", 0.001)
    engine = FakeEngine(FakeOptions(fault="step:hang~badword"))
    with caplog.at_level(logging.WARNING):
        async with alive(engine, limits=TimeLimits(step_s=0.2)) as lifecycle:
            lifecycle.loop.open(BAD)
            await until(lambda: lifecycle.loop.failure is not None)
    assert len([record for record in caplog.records if "is late" in record.getMessage()]) == 1


async def test_closing_fails_who_waits_for_a_load() -> None:
    engine = FakeEngine(FakeOptions(fault="load:hang"))
    lifecycle = Lifecycle(engine, SpeechObserver(), limits=TimeLimits(load_s=0.2))
    await lifecycle.start(preload=False)
    waiting = asyncio.create_task(lifecycle.enter())
    await until(lambda: lifecycle.late() is not None)
    await lifecycle.close()
    with pytest.raises((Cancelled, EngineFailed)):
        await waiting
    engine.faults.let_go()


async def test_closing_unloads_once_and_takes_nobody_in_any_more() -> None:
    engine = Counting()
    async with alive(engine) as lifecycle:
        await use(lifecycle)
        await lifecycle.close()
        assert (engine.loads, engine.unloads, engine.loaded) == (1, 1, False)
        assert lifecycle.state == "draining"
        with pytest.raises(Draining):
            lifecycle.check_open()


async def test_a_stop_at_any_moment_leaves_no_task_behind() -> None:
    before = len(asyncio.all_tasks())
    for fault in ("", "load:raise", "step:raise", "unload:raise"):
        engine = FakeEngine(FakeOptions(fault=fault))
        lifecycle = Lifecycle(engine, SpeechObserver())
        with suppress(RuntimeError, VivavoceError):
            await lifecycle.start()
        await lifecycle.close()
        assert len(asyncio.all_tasks()) == before
        assert not lifecycle.loop.running


async def test_collections_pass_over_what_a_loaded_engine_holds() -> None:
    """A collection of everything would hold up every call that is being spoken."""
    before = len(gc.get_objects())
    lifecycle = Lifecycle(FakeEngine(), SpeechObserver(), 0.01, own_process=True)
    try:
        await lifecycle.start()
        assert len(gc.get_objects()) < before / 2
        await until(lambda: lifecycle.state == "unloaded")
        await until(lambda: len(gc.get_objects()) > before / 2)
    finally:
        await lifecycle.close()
        gc.unfreeze()


@pytest.mark.parametrize("own_process", [True, False])
async def test_threads_take_turns_sooner_in_a_process_that_only_speaks(own_process: bool) -> None:
    usual_s = sys.getswitchinterval()
    lifecycle = Lifecycle(FakeEngine(), SpeechObserver(), own_process=own_process)
    try:
        await lifecycle.start()
        assert sys.getswitchinterval() == pytest.approx(SWITCH_S if own_process else usual_s)
    finally:
        await lifecycle.close()
        gc.unfreeze()
    assert sys.getswitchinterval() == pytest.approx(usual_s)


@pytest.mark.parametrize("idle", [False, True])
async def test_a_device_that_is_lost_in_a_load_fails_the_engine_for_good(idle: bool) -> None:
    """At the start, and where it was unloaded meanwhile: nobody is to try it again."""
    fault = f"load:device{'@2+' if idle else ''}"
    lifecycle = Lifecycle(FakeEngine(FakeOptions(fault=fault)), SpeechObserver(), 0.01 * idle)
    try:
        if not idle:
            with pytest.raises(EngineFailed):
                await lifecycle.start()
        else:
            await lifecycle.start()
            await until(lambda: lifecycle.state == "unloaded")
            with pytest.raises((EngineError, EngineFailed)):
                await lifecycle.enter()
        await until(lambda: lifecycle.state == "failed")
        assert lifecycle.loop.failure is not None
        assert lifecycle.loop.failure.exit_status == 70
    finally:
        await lifecycle.close()


class HandClock:
    """Moves by as much with every look."""

    def __init__(self, now_s: float, by_s: float) -> None:
        self.now_s, self.by_s = now_s, by_s

    def monotonic(self) -> float:
        self.now_s += self.by_s
        return self.now_s


async def test_how_long_a_load_took_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle_module, "time", HandClock(1.0, 200.0))
    with caplog.at_level(logging.INFO):
        async with alive(FakeEngine()):
            pass
    (ready,) = (record for record in caplog.records if record.getMessage() == "engine ready")
    # The clock is looked at when loading begins, by the proof (twice), and at the end.
    assert ready.__dict__["load_s"] == 600.0


class Mute(FakeEngine):
    """Ends every utterance without a sound."""

    def step(self) -> list[Produced]:
        return [replace(each, samples=each.samples[:0]) for each in super().step()]


async def test_an_engine_that_makes_no_sound_does_not_become_ready() -> None:
    with pytest.raises(EngineError, match="no sound"):
        async with alive(Mute()):
            pass


async def test_it_is_proved_in_the_default_voice() -> None:
    engine, proved = Counting(), []
    admit = engine.admit
    engine.admit = lambda said: proved.append(said) or admit(said)  # type: ignore[method-assign]
    async with alive(engine):
        assert [said.voice for said in proved] == [engine.voices()[0]]


async def test_who_comes_while_it_loads_is_told_to_come_again_in_a_second() -> None:
    engine = FakeEngine(FakeOptions(fault="load:hang"))
    lifecycle = Lifecycle(engine, SpeechObserver())
    starting = asyncio.create_task(lifecycle.start())
    await until(lambda: lifecycle.latest() is not None)
    assert not lifecycle.ready
    with pytest.raises(Starting) as refused:
        lifecycle.check_open()
    assert refused.value.retry_after_ms == 1_000
    engine.faults.let_go()
    await starting
    assert lifecycle.ready
    await lifecycle.close()


@dataclass(frozen=True)
class Late:
    """Work that has used up exactly so much of its limit."""

    doing: str
    share: float

    def __str__(self) -> str:
        return f"The engine has been {self.doing}."


@pytest.mark.parametrize(("share", "late"), [(0.49, False), (0.5, True), (0.51, True)])
async def test_late_is_what_has_used_up_its_share(share: float, late: bool) -> None:
    async with alive(FakeEngine()) as lifecycle:
        lifecycle.watch(lambda: Late("busy", share))  # type: ignore[return-value, arg-type]
        assert (lifecycle.late(0.5) is not None) is late


async def test_each_kind_of_late_work_is_logged_once_and_again_when_it_comes_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle_module, "WATCH_S", 0.001)
    now = [Late("in a step", 0.99)]
    looks = [0]

    def look() -> Any:
        looks[0] += 1
        return now[0]

    async with alive(FakeEngine()) as lifecycle:
        lifecycle.watch(look)
        told = []
        for doing, share in (("z", 1.0), ("a", 1.5), ("a", 0.99), ("a", 1.99), ("a", 1.0)):
            before = looks[0]
            now[0] = Late(doing, share)
            await until(lambda before=before: looks[0] > before + 3)  # type: ignore[misc]
            told.append(len([each for each in caplog.records if "is late" in each.getMessage()]))
        assert told == [1, 2, 2, 3, 3]
        assert lifecycle.loop.failure is None
        now[0] = Late("a", 2.0)
        await until(lambda: lifecycle.loop.failure is not None)


@pytest.mark.parametrize(("busy", "timeout_s"), [(False, CLOSE_S), (True, CLOSE_BUSY_S)])
async def test_the_end_waits_less_for_a_thread_that_is_late(
    busy: bool, timeout_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    async with alive(FakeEngine()) as lifecycle:
        stop = lifecycle.loop.stop

        def noting(limit_s: float, *, unload: bool = False) -> bool:
            waited.append(limit_s)
            return stop(limit_s, unload=unload)

        monkeypatch.setattr(lifecycle.loop, "stop", noting)
        if busy:
            lifecycle.watch(lambda: Late("busy", 1.5))  # type: ignore[return-value, arg-type]
    assert waited == [timeout_s]
    assert CLOSE_BUSY_S < CLOSE_S


class IdleClock:
    """Stands for the event loop's timers of unloading; they run out when they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.after_s: list[float] = []
        self._callbacks: list[Callable[[], None]] = []
        self._real = asyncio.get_running_loop().call_later
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self._call_later)

    def _call_later(self, delay_s: float, callback: Any, *given: Any, **how: Any) -> Any:
        if getattr(callback, "__name__", "") != "_begin_unload":
            return self._real(delay_s, callback, *given, **how)
        self.after_s.append(delay_s)
        self._callbacks.append(callback)
        return self._real(1e6, callback)

    def runs_out(self) -> None:
        self._callbacks[-1]()


async def test_it_stays_loaded_unless_an_idle_time_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    idle = IdleClock(monkeypatch)
    lifecycle = Lifecycle(FakeEngine(), SpeechObserver())
    await lifecycle.start()
    await use(lifecycle)
    assert idle.after_s == []
    await lifecycle.close()


async def test_work_that_goes_on_without_its_caller_keeps_it_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    idle = IdleClock(monkeypatch)
    async with alive(FakeEngine(), idle_s=40.0) as lifecycle:
        assert idle.after_s == [40.0]
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lifecycle.stay_until(done)
        idle.runs_out()
        assert lifecycle.state == "ready"
        done.set_result(None)
        await until(lambda: idle.after_s == [40.0, 40.0])
        idle.runs_out()
        assert lifecycle.state == "unloaded"
