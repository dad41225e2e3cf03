"""What an engine raises ends the utterance it was called for; only a step ends them all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from vivavoce.engines.base import Produced
from vivavoce.engines.loop import NOBODYS_SLOT, STEP_FAILED, EngineLoop
from vivavoce.engines.stream import UtteranceStream
from vivavoce.errors import Cancelled, EngineError, EngineFailed, InputError, Unsupported
from vivavoce.runtime.device_errors import LOST
from vivavoce.testing.fake_engine import FakeEngine, FakeOptions
from vivavoce.types import Span, Utterance

SECRET = "four one one one"
GOOD = "a good one"
RAISING = ("raise", "memory", "gpu_memory", "exit")


def utterance(text: str, **how: Any) -> Utterance:
    return Utterance((Span(text),), FakeEngine().voices()[0], **how)


@asynccontextmanager
async def running(engine: FakeEngine | None = None, **options: Any) -> AsyncIterator[EngineLoop]:
    loop = EngineLoop(engine or FakeEngine(FakeOptions(**options)))
    loop.start()
    await asyncio.wrap_future(loop.load())
    try:
        yield loop
    finally:
        fake(loop).faults.let_go()
        await asyncio.to_thread(loop.stop)


def fake(loop: EngineLoop) -> FakeEngine:
    assert isinstance(loop.engine, FakeEngine)
    return loop.engine


async def collect(stream: UtteranceStream) -> np.ndarray:
    async with asyncio.timeout(10):
        return np.concatenate([produced.samples async for produced in stream])


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - any condition, not only events
            await asyncio.sleep(0.001)


async def error_of(stream: UtteranceStream, kind: type[Exception] = EngineError) -> str:
    with pytest.raises(kind) as caught:
        await collect(stream)
    assert type(caught.value) is kind
    assert SECRET not in str(caught.value)
    return str(caught.value)


async def speaks(loop: EngineLoop) -> bool:
    return len(await collect(loop.open(utterance(GOOD)))) == round(len(GOOD) * 0.06 * 24_000)


@pytest.mark.parametrize("kind", [*RAISING, "wrong"])
async def test_a_caller_whom_the_engine_fails_to_take_in_is_told_at_once_and_alone(
    kind: str,
) -> None:
    async with running(fault=f"admit:{kind}~badword", step_ms=1) as loop:
        neighbor = loop.open(utterance("word " * 200))
        await anext(neighbor)
        bad = loop.open(utterance(f"badword {SECRET}"))
        assert "log says more" in await error_of(bad)
        assert loop.failure is None
        assert await speaks(loop)
        assert len((await anext(neighbor)).samples) > 0


async def test_a_slot_that_is_no_number_fails_its_caller_alone() -> None:
    async with running(fault="admit:wrong@once") as loop:
        await error_of(loop.open(utterance("nobody else speaks")))
        assert await speaks(loop)


async def test_what_an_engine_says_to_a_caller_is_passed_on() -> None:
    engine = FakeEngine()

    def refuse(asked: Utterance) -> int:
        raise InputError("Not this word.", param="input")

    async with running(engine) as loop:
        engine.admit = refuse  # type: ignore[method-assign]
        assert await error_of(loop.open(utterance("x")), InputError) == "Not this word."
        assert loop.failure is None


@pytest.mark.parametrize("kind", RAISING)
@pytest.mark.parametrize("method", ["extend", "finish"])
async def test_more_text_that_the_engine_fails_on_ends_that_utterance_alone(
    method: str, kind: str
) -> None:
    async with running(fault=f"{method}:{kind}", step_ms=1) as loop:
        neighbor = loop.open(utterance("word " * 200))
        await anext(neighbor)
        stream = loop.open(utterance(f"open {SECRET}", text_open=True))
        stream.extend("more") if method == "extend" else stream.finish_text()
        await error_of(stream)
        await until(lambda: len(fake(loop)._live) == 1)
        assert loop.failure is None
        assert await speaks(loop)


async def test_an_engine_that_takes_whole_texts_only_says_so_to_that_caller() -> None:
    engine = FakeEngine()

    def refuse(slot: int, text: str) -> None:
        raise Unsupported("Whole texts only.")

    async with running(engine) as loop:
        engine.extend = refuse  # type: ignore[method-assign]
        stream = loop.open(utterance("open", text_open=True))
        stream.extend("more")
        assert await error_of(stream, Unsupported) == "Whole texts only."


async def test_text_that_comes_before_the_slot_is_not_lost() -> None:
    async with running(capacity=1, step_ms=1) as loop:
        holder = loop.open(utterance("word " * 100))
        await anext(holder)
        waiting = loop.open(utterance("hel", text_open=True))
        waiting.extend("lo there")
        waiting.finish_text()
        await until(lambda: loop.live == 2)
        holder.close()
        assert len(await collect(waiting)) == round(len("hello there") * 0.06 * 24_000)


@pytest.mark.parametrize("kind", RAISING)
async def test_a_slot_that_cannot_be_freed_harms_nobody(kind: str) -> None:
    async with running(fault=f"release:{kind}~badword", step_ms=1) as loop:
        stream = loop.open(utterance("badword " * 100))
        await anext(stream)
        stream.close()
        await until(lambda: loop.live == 0)
        # The engine goes on speaking for nobody, beside the next caller.
        assert await speaks(loop)
        assert loop.failure is None


async def test_a_slot_that_was_not_freed_can_be_given_again() -> None:
    async with running(fault="release:raise@once", step_ms=1) as loop:
        stream = loop.open(utterance("word " * 100))
        await anext(stream)
        stream.close()
        await until(lambda: loop.live == 0)
        fake(loop)._live.clear()  # freed after all
        assert await speaks(loop)


@pytest.mark.parametrize("kind", RAISING)
async def test_a_step_that_raises_ends_everybody_with_a_fixed_sentence(kind: str) -> None:
    async with running(fault=f"step:{kind}~badword", step_ms=1) as loop:
        neighbor = loop.open(utterance("word " * 500))
        await anext(neighbor)
        culprit = loop.open(utterance(f"badword {SECRET}"))
        for stream in (culprit, neighbor):
            assert await error_of(stream, EngineFailed) == STEP_FAILED
        assert loop.failure is not None and loop.failure.message == STEP_FAILED
        with pytest.raises(EngineFailed):
            loop.open(utterance("after"))
        with pytest.raises(EngineFailed):
            await asyncio.wrap_future(loop.call(lambda: None))


async def test_a_step_for_a_slot_that_nobody_has_is_that_steps_fault() -> None:
    async with running(fault="step:wrong~badword", step_ms=1) as loop:
        neighbor = loop.open(utterance("word " * 500))
        await anext(neighbor)
        loop.open(utterance("badword"))
        assert await error_of(neighbor, EngineFailed) == NOBODYS_SLOT


async def test_who_was_served_by_the_step_that_lost_count_still_hears_it() -> None:
    async with running(fault="step:wrong@once") as loop:
        stream = loop.open(utterance("x"))  # one step makes all of it
        assert len(await collect(stream)) == round(0.06 * 24_000)
        await until(lambda: loop.failure is not None)


async def test_a_step_that_returns_no_pieces_at_all_ends_everybody() -> None:
    engine = FakeEngine()
    async with running(engine) as loop:
        engine.step = lambda: None  # type: ignore[method-assign,assignment,return-value]
        assert await error_of(loop.open(utterance("x")), EngineFailed) == STEP_FAILED


@pytest.mark.parametrize("kind", ["shape", "dtype"])
async def test_something_else_than_sound_costs_its_utterance_alone(kind: str) -> None:
    async with running(fault=f"step:{kind}~badword", step_ms=1) as loop:
        neighbor = loop.open(utterance("word " * 200))
        await anext(neighbor)
        await error_of(loop.open(utterance("badword " * 50)))
        await until(lambda: len(fake(loop)._live) == 1)
        assert await speaks(loop)
        assert loop.failure is None


async def test_pieces_after_one_that_was_no_sound_are_nobodys_loss() -> None:
    engine = FakeEngine()
    async with running(engine) as loop:
        wrong = Produced(0, np.zeros((1, 3), np.float32))
        engine.step = lambda: [wrong, wrong]  # type: ignore[method-assign]
        await error_of(loop.open(utterance("x")))
        assert loop.failure is None


async def test_an_error_that_is_not_ours_is_not_told() -> None:
    engine = FakeEngine()
    async with running(engine) as loop:
        error: Any = ValueError(SECRET)
        piece = Produced(0, np.zeros(0, np.float32), last=True, error=error)
        engine.step = lambda: [piece]  # type: ignore[method-assign]
        await error_of(loop.open(utterance("x")))
        assert loop.failure is None


async def test_a_lost_device_condemns_the_engine_whatever_raised_it() -> None:
    async with running(fault="admit:device~badword", step_ms=1) as loop:
        neighbor = loop.open(utterance("word " * 500))
        await anext(neighbor)
        with pytest.raises((EngineError, EngineFailed)):
            await collect(loop.open(utterance("badword")))
        assert await error_of(neighbor, EngineFailed) == LOST
        assert loop.failure is not None and loop.failure.message == LOST


async def test_no_memory_is_no_device_error_that_sticks() -> None:
    async with running(fault="admit:gpu_memory~badword") as loop:
        for _ in range(4):
            await error_of(loop.open(utterance("badword")))
        assert loop.failure is None
        assert await speaks(loop)


@pytest.mark.parametrize("method", ["admit", "extend", "release", "step"])
async def test_a_fault_is_logged_without_callers_words(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with running(fault=f"{method}:raise~411", step_ms=1) as loop:
            stream = loop.open(utterance(f"411 {SECRET} " * 20, text_open=True))
            stream.extend(f"411 {SECRET}")
            if method == "release":
                await anext(stream)
                stream.close()
                await until(lambda: loop.live == 0)
            else:
                with pytest.raises((EngineError, EngineFailed)):
                    await collect(stream)
    errors = [r for r in caplog.records if r.levelno >= logging.ERROR and "raised" in r.msg]
    assert errors
    assert "RuntimeError" in errors[0].getMessage() and method in errors[0].getMessage()
    assert "fake_faults.py:" in errors[0].getMessage()
    for record in caplog.records:
        told = record.levelno > logging.DEBUG and (record.getMessage() + str(record.exc_info))
        assert not told or SECRET not in told
    assert any(record.exc_info and SECRET in str(record.exc_info[1]) for record in caplog.records)


@pytest.mark.parametrize("method", ["admit", "release", "extend", "step"])
async def test_a_hang_in_any_call_shows_what_the_thread_is_doing(method: str) -> None:
    doing = {
        "admit": "taking a request in",
        "release": "freeing a slot",
        "extend": "taking more text",
        "step": "in one step",
    }[method]
    async with running(fault=f"{method}:hang~badword", step_ms=1) as loop:
        stream = loop.open(utterance("badword " * 100, text_open=True))
        stream.extend("badword")
        if method == "release":
            await anext(stream)
            stream.close()

        def hangs() -> bool:
            activity = loop.activity
            return activity is not None and activity.doing == doing and activity.lasted_s > 0.1

        await until(hangs)
        assert str(loop.activity).startswith(f"The engine has been {doing} for 0.")


async def test_giving_up_an_engine_that_hangs_tells_everybody_at_once() -> None:
    async with running(fault="step:hang~badword", capacity=2, step_ms=1) as loop:
        neighbor = loop.open(utterance("word " * 500))
        await anext(neighbor)
        culprit, queued = (loop.open(utterance("badword")) for _ in range(2))
        await until(lambda: fake(loop).faults.faults[0].seen > 0)
        waiting = asyncio.wrap_future(loop.call(lambda: None))
        loop.condemn("It hangs.")
        for stream in (neighbor, culprit, queued):
            assert await error_of(stream, EngineFailed) == "It hangs."
        with pytest.raises(EngineFailed):
            await asyncio.wait_for(waiting, 10)
        with pytest.raises(EngineFailed):
            await asyncio.wait_for(asyncio.wrap_future(loop.load()), 10)


async def test_stopping_does_not_wait_for_a_thread_that_hangs() -> None:
    async with running(fault="step:hang~badword") as loop:
        stream = loop.open(utterance("badword"))
        await until(lambda: fake(loop).faults.faults[0].seen > 0)
        assert not await asyncio.to_thread(loop.stop, 0.05)
        await error_of(stream, Cancelled)


async def test_an_engine_that_is_unloaded_last_is_so_in_its_own_thread() -> None:
    async with running() as loop:
        assert fake(loop).loaded
        assert await asyncio.to_thread(loop.stop, unload=True)
        assert not fake(loop).loaded
        with pytest.raises(Cancelled):
            loop.open(utterance("after"))


async def test_an_unload_that_fails_does_not_keep_the_thread_from_ending() -> None:
    async with running(fault="unload:raise") as loop:
        assert await asyncio.to_thread(loop.stop, unload=True)
        assert not loop.running


async def test_stopping_alone_leaves_the_engine_to_its_owner() -> None:
    async with running() as loop:
        assert await asyncio.to_thread(loop.stop)
        assert fake(loop).loaded
