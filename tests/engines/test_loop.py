"""The engine loop: order, cancel, faults, and nothing left behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from vivavoce.engines import stream as stream_module
from vivavoce.engines.loop import EngineLoop
from vivavoce.engines.stream import UtteranceStream
from vivavoce.errors import Cancelled, EngineError, EngineFailed, SlowConsumer
from vivavoce.testing.fake_engine import FakeEngine, FakeOptions
from vivavoce.types import Span, Utterance


def utterance(text: str, **how: Any) -> Utterance:
    return Utterance((Span(text),), FakeEngine().voices()[0], **how)


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[EngineLoop]:
    loop = EngineLoop(FakeEngine(FakeOptions(**options)))
    loop.start()
    await asyncio.wrap_future(loop.call(loop.engine.load))
    try:
        yield loop
    finally:
        await asyncio.to_thread(loop.stop)


async def collect(stream: UtteranceStream) -> np.ndarray:
    return np.concatenate([produced.samples async for produced in stream])


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - any condition, not only events
            await asyncio.sleep(0.001)


async def test_an_utterance_comes_whole_and_in_order() -> None:
    async with running() as loop:
        sound = await collect(loop.open(utterance("hello there")))
        assert len(sound) == round(11 * 0.06 * 24_000)
        expected = 0.5 * np.cos(2 * np.pi * 330 / 24_000 * np.arange(len(sound)))
        np.testing.assert_allclose(sound, expected, atol=1e-5)


async def test_company_does_not_alter_an_utterance() -> None:
    async with running() as loop:
        alone = await collect(loop.open(utterance("the same words")))
        streams = [loop.open(utterance("the same words")) for _ in range(20)]
        for sound in await asyncio.gather(*map(collect, streams)):
            np.testing.assert_array_equal(sound, alone)


async def test_more_utterances_than_slots_all_get_their_turn() -> None:
    async with running(capacity=2) as loop:
        streams = [loop.open(utterance(f"number {n}")) for n in range(9)]
        sounds = await asyncio.gather(*map(collect, streams))
        assert {len(sound) for sound in sounds} == {round(8 * 0.06 * 24_000)}
        assert loop.live == 0


async def test_closing_frees_the_slot_within_one_step() -> None:
    async with running(step_ms=5, capacity=1) as loop:
        engine = loop.engine
        assert isinstance(engine, FakeEngine)
        stream = loop.open(utterance("word " * 2000))
        await anext(stream)
        stream.close()
        at_close = engine.steps
        await until(lambda: loop.live == 0)
        assert engine.steps - at_close <= 1
        steps = engine.steps
        await asyncio.sleep(0.05)
        assert engine.steps == steps, "the engine went on without an utterance"


async def test_closing_a_waiting_utterance_takes_it_out_of_the_queue() -> None:
    async with running(step_ms=2, capacity=1) as loop:
        first, second = (loop.open(utterance("x" * 500)) for _ in range(2))
        await anext(first)
        await until(lambda: loop.live == 2)
        second.close()
        await until(lambda: loop.live == 1)
        first.close()
        await until(lambda: loop.live == 0)


async def test_a_closed_stream_yields_nothing_more() -> None:
    async with running(step_ms=2) as loop:
        stream = loop.open(utterance("a long enough text to be cut"))
        await anext(stream)
        stream.close()
        stream.close()
        assert [produced async for produced in stream] == []
        assert stream.finish_reason == "cancelled"


async def test_a_fault_in_one_utterance_leaves_its_neighbors_alone() -> None:
    async with running() as loop:
        bad, good = loop.open(utterance("failword now")), loop.open(utterance("a good one"))
        with pytest.raises(EngineError):
            await collect(bad)
        assert len(await collect(good)) == round(10 * 0.06 * 24_000)


async def test_what_came_before_a_fault_is_still_delivered() -> None:
    async with running() as loop:
        stream = loop.open(utterance("failword now"))
        assert len((await anext(stream)).samples) > 0


async def test_a_broken_engine_fails_everyone_and_refuses_the_next() -> None:
    async with running(step_ms=1) as loop:
        bystander = loop.open(utterance("word " * 500))
        await anext(bystander)
        culprit = loop.open(utterance("breakword"))
        for stream in (bystander, culprit):
            with pytest.raises(EngineFailed):
                await collect(stream)
        with pytest.raises(EngineFailed):
            loop.open(utterance("after"))


async def test_stopping_ends_what_runs() -> None:
    async with running(step_ms=2) as loop:
        stream = loop.open(utterance("word " * 500))
        await anext(stream)
        await asyncio.to_thread(loop.stop)
        with pytest.raises(Cancelled):
            await collect(stream)


async def test_a_consumer_that_never_reads_is_given_up_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_module, "MAX_BUFFERED_BYTES", 50_000)

    async with running(capacity=2) as loop:
        lazy = loop.open(utterance("runawayword"))
        eager = loop.open(utterance("hello"))
        assert len(await collect(eager)) == round(5 * 0.06 * 24_000)
        await until(lambda: lazy.finished)
        await until(lambda: loop.live == 0)
        with pytest.raises(SlowConsumer):
            await collect(lazy)


async def test_text_in_pieces_equals_the_whole_text() -> None:
    async with running() as loop:
        whole = await collect(loop.open(utterance("hello there")))
        stream = loop.open(utterance("hel", text_open=True))
        await asyncio.sleep(0.01)
        stream.extend("lo ")
        stream.extend("there")
        stream.finish_text()
        np.testing.assert_array_equal(await collect(stream), whole)


async def test_a_step_hands_over_with_one_call_per_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(chunk_ms=60) as loop:
        calls = 0
        real = asyncio.get_running_loop().call_soon_threadsafe

        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            return real(*args, **kwargs)

        gate = threading.Event()
        blocked = loop.call(lambda: gate.wait() and None)
        streams = [loop.open(utterance("four")) for _ in range(30)]
        monkeypatch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", counted)
        gate.set()
        await asyncio.gather(*map(collect, streams))
        assert blocked.done()
        assert calls == 4, "four steps of 60 ms for four characters, one call each"
        monkeypatch.undo()


def test_several_event_loops_share_one_engine() -> None:
    engine_loop = EngineLoop(FakeEngine())
    engine_loop.start()
    lengths: list[int] = []

    def caller() -> None:
        async def speak() -> None:
            lengths.append(len(await collect(engine_loop.open(utterance("hello")))))

        asyncio.run(speak())

    threads = [threading.Thread(target=caller) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine_loop.stop()
    assert lengths == [round(5 * 0.06 * 24_000)] * 4


async def test_a_stuck_step_is_visible() -> None:
    async with running(slow_ms=300) as loop:
        stream = loop.open(utterance("slowword"))
        await until(lambda: lasting(loop, "in one step") > 0.1)
        await collect(stream)
        await until(lambda: loop.activity is None)


def lasting(loop: EngineLoop, doing: str) -> float:
    """Seconds that the engine's thread has been at this; 0 where it is at something else."""
    activity = loop.activity
    return activity.lasted_s if activity is not None and activity.doing == doing else 0.0


async def test_a_call_on_the_engine_thread_reports_its_error() -> None:
    async with running() as loop:

        def broken() -> None:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await asyncio.wrap_future(loop.call(broken))
        assert len(await collect(loop.open(utterance("fine")))) > 0


async def test_stopping_leaves_the_model_loaded_unless_it_is_asked_otherwise() -> None:
    for asked, loaded in (({}, True), ({"unload": False}, True), ({"unload": True}, False)):
        loop = EngineLoop(FakeEngine())
        loop.start()
        await asyncio.wrap_future(loop.load())
        assert await asyncio.to_thread(loop.stop, **asked)
        assert loop.engine.loaded is loaded  # type: ignore[attr-defined]


async def test_live_are_those_in_slots_and_those_that_wait() -> None:
    async with running(capacity=2, paced=True) as loop:
        streams = [loop.open(utterance("a longer text than that")) for _ in range(5)]
        await until(lambda: loop.live == 5)
        for left, stream in enumerate(reversed(streams)):
            stream.close()
            await until(lambda left=left: loop.live == 4 - left)  # type: ignore[misc]


class Timed:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.released_s: list[float] = []
        self.steps: list[tuple[float, int]] = []

    def released(self, after_s: float) -> None:
        self.released_s.append(after_s)

    def stepped(self, duration_s: float, live: int) -> None:
        self.steps.append((duration_s, live))


async def test_the_observer_is_told_spans_and_no_times_of_day() -> None:
    observer = Timed()
    loop = EngineLoop(FakeEngine(FakeOptions(paced=True)), observer)
    loop.start()
    began_s = time.monotonic()
    await asyncio.wrap_future(loop.load())
    stream = loop.open(utterance("a longer text than that"))
    await anext(stream)
    stream.close()
    await until(lambda: observer.released_s)
    passed_s = time.monotonic() - began_s
    assert all(0 <= each <= passed_s for each in observer.released_s)
    assert all(0 < each <= passed_s and live == 1 for each, live in observer.steps)
    await asyncio.to_thread(loop.stop)


async def test_nobody_is_left_in_a_loop_that_was_given_up() -> None:
    async with running(capacity=1, paced=True) as loop:
        streams = [loop.open(utterance("a longer text than that")) for _ in range(3)]
        await until(lambda: loop.live == 3)
        loop.condemn("It hangs.")
        for stream in streams:
            with pytest.raises(EngineFailed):
                await collect(stream)
        await until(lambda: loop.live == 0)


async def test_the_thread_rests_once_the_engine_was_given_up() -> None:
    async with running(capacity=1, paced=True) as loop:
        stream = loop.open(utterance("a longer text than that"))
        await anext(stream)
        loop.condemn("It hangs.")
        await until(lambda: loop.live == 0)
        await until(lambda: loop.activity is None)
        assert loop.running
