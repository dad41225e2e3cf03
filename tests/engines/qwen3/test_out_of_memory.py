"""A GPU without memory for a call: planted at every place that allocates, it costs that call alone.

And an error after which the device is lost costs them all, with a status of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch

from engines.qwen3.planted import Place, Planted, places_of
from engines.qwen3.simulated_card import SimulatedCard
from engines.qwen3.test_captured_engine import (
    ROWS,
    come_and_go,
    left_behind,
    run,
    saying,
    spoken,
)
from vivavoce.engines.loop import EngineLoop
from vivavoce.engines.qwen3 import device, loading, rows
from vivavoce.engines.qwen3.batch import Batch
from vivavoce.engines.qwen3.engine import Qwen3Engine
from vivavoce.engines.qwen3.frame_runner import EagerRunner, GraphRunner
from vivavoce.engines.qwen3.graphs import Capturing
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.engines.qwen3.pace import Costs
from vivavoce.errors import EngineError, EngineFailed, SetupError
from vivavoce.runtime import cuda
from vivavoce.runtime.device_errors import NoDeviceMemory
from vivavoce.testing.recorded_graphs import RecordingGraphs
from vivavoce.types import ReferenceAudio, Utterance

pytestmark = pytest.mark.timeout(900)  # the slow ones fail at some hundred places

Checkpoints = Callable[[str], Path]
LONG = "A sentence that goes on for longer than a few frames, and has a long prompt. " * 3
FRAMES = 3
VOICES: WeakKeyDictionary[Qwen3Engine, Any] = WeakKeyDictionary()
KINDS = ("plain", "eager", "captured")
"""Without captures; with captures that failed, so that all runs eagerly; replayed."""


def engine_of(folder: Path, kind: str, count: int = ROWS) -> Qwen3Engine:
    api = RecordingGraphs(eager=True, refuses=lambda name: kind == "eager")
    options = Qwen3Options(model=folder, device="cpu", threads=1, positions=256, capacity=count)
    engine = Qwen3Engine(options, None if kind == "plain" else Capturing(api))
    engine.load()
    assert engine._batch is not None
    if kind == "plain":
        runner = engine._batch._runner
        assert isinstance(runner, EagerRunner)
        runner.scarce = True  # as on a GPU, which may lack memory half-way
    return engine


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest, tiny_checkpoint: Checkpoints) -> Iterator[Qwen3Engine]:
    made = engine_of(tiny_checkpoint("0.6B-Base"), request.param)
    yield made
    made.unload()


@pytest.fixture
def emptied(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """How often the device's cache was emptied."""
    calls: list[torch.device] = []
    monkeypatch.setattr(cuda, "empty_cache", calls.append)
    return calls


def noise(seed: int = 0) -> ReferenceAudio:
    rng = np.random.default_rng(seed)
    samples = (0.1 * rng.standard_normal(24_000)).astype(np.float32)
    return ReferenceAudio(samples, 16_000, "Some words.")


def call_of(engine: Qwen3Engine, **how: Any) -> Utterance:
    """A long prompt with a voice that was never used before, so that every part of it is read."""
    if engine not in VOICES:
        VOICES[engine] = engine.clone(noise())
    voice = replace(VOICES[engine], data=replace(VOICES[engine].data))
    return saying(engine, LONG, FRAMES, voice=voice, **how)


def speak(engine: Qwen3Engine, utterance: Utterance) -> Any:
    slot = engine.admit(utterance)
    return run(engine, [slot])[slot]


@contextmanager
def planted(place: Place, times: int) -> Iterator[Planted]:
    with Planted(place, times) as plant:
        yield plant


def sampled(places: list[Place], most: int) -> list[Place]:
    """All of them, or evenly so many."""
    return places[:: max(1, -(-len(places) // most))]


EVERY = [15, pytest.param(10_000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("most", EVERY)
def test_every_place_of_a_call_fails_that_call_and_the_next_speaks(
    most: int, engine: Qwen3Engine, emptied: list[torch.device]
) -> None:
    """Reading the prompt, frames, sound: one try more is made, and nothing is left behind."""
    expected = spoken(engine, call_of(engine))[0]
    rest = left_behind(engine)
    other = call_of(engine)
    places = places_of(lambda: speak(engine, other))
    files = {place.file.rpartition("/")[2] for place in places}
    assert {"prompt.py", "rows.py"} <= files and len(places) > 10
    for place in sampled(places, most):
        emptied.clear()
        utterance = call_of(engine)
        with planted(place, 10_000) as plant:
            pieces = speak(engine, utterance)
        assert plant.failed >= 2 and emptied, place
        assert isinstance(pieces[-1].error, NoDeviceMemory), place
        assert left_behind(engine) == rest, place
    np.testing.assert_array_equal(spoken(engine, call_of(engine))[0], expected)


@pytest.mark.parametrize("most", EVERY)
def test_memory_that_is_there_again_costs_nothing(
    most: int, engine: Qwen3Engine, emptied: list[torch.device]
) -> None:
    """The second try says what the first would have said."""
    expected, sound, _ = spoken(engine, call_of(engine))
    other = call_of(engine)
    for place in sampled(places_of(lambda: speak(engine, other)), most):
        emptied.clear()
        utterance = call_of(engine)
        with planted(place, 1) as plant:
            codes, heard, pieces = spoken(engine, utterance)
        assert plant.failed == 1 and emptied, place
        assert pieces[-1].error is None, place
        np.testing.assert_array_equal(codes, expected, err_msg=str(place))
        np.testing.assert_allclose(heard, sound, atol=1e-4, err_msg=str(place))


def test_others_go_on_while_a_call_fails(engine: Qwen3Engine, emptied: list[torch.device]) -> None:
    """Whoever came last gives way, wherever memory ends; the others say what they would have."""
    first = call_of(engine)
    expected = spoken(engine, first)[0]
    places = places_of(lambda: speak(engine, call_of(engine)))
    for place in sampled(places, 6):
        slot = engine.admit(first)
        codes = engine.record(slot)
        while len(codes) < 2:
            engine.step()
        late = engine.admit(call_of(engine))
        with planted(place, 2) as plant:
            errors = ended(engine, {slot, late})
        assert plant.failed == 2, place
        assert [error is not None for error in errors.values()].count(True) == 1, place
        if errors[slot] is None:
            np.testing.assert_array_equal(np.stack(codes), expected, err_msg=str(place))


def ended(engine: Qwen3Engine, live: set[int]) -> dict[int, Any]:
    """Step until all have ended: with which error."""
    errors: dict[int, Any] = {}
    for _ in range(600):
        errors |= {piece.slot: piece.error for piece in engine.step() if piece.last}
        if errors.keys() >= live:
            return errors
    raise AssertionError("it never ended")


@pytest.mark.parametrize("joins", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_thousand_calls_after_it_leave_nothing_behind(
    joins: int, engine: Qwen3Engine, emptied: list[torch.device]
) -> None:
    utterance = call_of(engine)
    for place in sampled(places_of(lambda: speak(engine, utterance)), 5):
        with planted(place, 10_000):
            speak(engine, call_of(engine))
    rest = left_behind(engine)
    come_and_go(engine, joins, seed=1)
    assert left_behind(engine) == rest
    assert not any(rest.values())


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("method", ["extend", "finish"])
def test_more_text_without_memory_ends_that_call(
    method: str,
    times: int,
    engine: Qwen3Engine,
    emptied: list[torch.device],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is sent to a GPU takes memory there."""

    def said(fails: int) -> Any:
        slot = engine.admit(saying(engine, "Hello there", 14, text_open=True))
        codes = engine.record(slot)
        while not codes:
            engine.step()
        left = [torch.OutOfMemoryError("CUDA out of memory.")] * fails

        def to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
            if left:
                raise left.pop()
            return values

        with monkeypatch.context() as patch:
            if method == "extend":
                patch.setattr(rows, "to_device", to_device)
            engine.extend(slot, " more words, and")
            patch.setattr(rows, "to_device", to_device)
            engine.finish(slot)
        assert not left
        return run(engine, [slot])[slot][-1].error, [code.tolist() for code in codes]

    error, codes = said(times)
    assert isinstance(error, NoDeviceMemory) if times > 1 else error is None
    again, expected = said(0)
    assert again is None and codes == expected[: len(codes)]
    assert times > 1 or codes == expected


def test_every_place_of_cloning_fails_that_clone_alone(
    engine: Qwen3Engine, emptied: list[torch.device]
) -> None:
    expected = engine.clone(noise(7))
    for place in sampled(places_of(lambda: engine.clone(noise(7))), 8):
        emptied.clear()
        with planted(place, 2), pytest.raises(NoDeviceMemory):
            engine.clone(noise(7))
        with planted(place, 1):
            assert engine.clone(noise(7)).id == expected.id
        assert len(emptied) >= 2, place
    assert speak(engine, call_of(engine))[-1].error is None


@pytest.mark.parametrize(
    ("kind", "most"),
    [("plain", 6), ("eager", 4), *(pytest.param(k, 40, marks=pytest.mark.slow) for k in KINDS)],
)
def test_every_place_of_a_load_speaks_or_is_refused(
    kind: str,
    most: int,
    tiny_checkpoint: Checkpoints,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of captures and warm-ups above all: they do without, or the load is refused with the sum."""
    folder = tiny_checkpoint("0.6B-CustomVoice")
    card = SimulatedCard(24 * 10**9)
    monkeypatch.setattr(device, "card_on", lambda place: card)
    for place in sampled(places_of_a_load(folder, kind), most):
        for times in (1, 10_000):
            caplog.clear()
            with planted(place, times) as plant, caplog.at_level(logging.WARNING):
                try:
                    engine = engine_of(folder, kind, 1)
                except SetupError as refused:
                    assert " = " in refused.message and "ran out" in refused.message, place
                    continue
            assert plant.failed and caplog.records, place
            assert speak(engine, saying(engine))[-1].error is None, place
            engine.unload()


CAPTURED = {"frame": "talker.py", "prefill": "graphs.py", "codec": "waveform.py"}
"""A file that each kind of capture comes by."""


@cache
def places_of_a_load(folder: Path, kind: str) -> list[Place]:
    """Of a second one: the first of a process comes by more."""
    engine_of(folder, kind, 1).unload()
    return places_of(lambda: engine_of(folder, kind, 1).unload())


@cache
def words_of(folder: Path) -> Any:
    """The codes of a call where nothing fails."""
    engine = engine_of(folder, "captured", 1)
    codes = spoken(engine, saying(engine))[0]
    engine.unload()
    return codes


@pytest.mark.parametrize(
    ("what", "times"),
    [
        *(("frame", 1), ("codec", 1), ("prefill", 10_000)),
        pytest.param("frame", 10_000, marks=pytest.mark.slow),
        pytest.param("codec", 10_000, marks=pytest.mark.slow),
        pytest.param("prefill", 1, marks=pytest.mark.slow),
    ],
)
def test_a_capture_without_memory_is_tried_once_more_and_then_done_without(
    what: str, times: int, tiny_checkpoint: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    """Where there is room after all it costs nothing; else the call speaks, with a warning."""
    folder = tiny_checkpoint("0.6B-CustomVoice")
    places = places_of_a_load(folder, "captured")
    inside = [place for place in places if place.file.endswith(CAPTURED[what])]
    with planted(inside[len(inside) // 2], times) as plant, caplog.at_level(logging.WARNING):
        engine = engine_of(folder, "captured", 1)
    assert engine._capturing is not None
    assert plant.failed and engine._capturing.api.rooms  # type: ignore[attr-defined]
    assert f"to capture {what}" in caplog.text
    assert (engine.info.details["graphs_failed"] == 0) == (times == 1)
    assert ("Capture failed, running without" in caplog.text) == (times > 1)
    np.testing.assert_array_equal(spoken(engine, saying(engine))[0], words_of(folder))
    assert (engine.info.details["graphs_eager"] == 0) == (times == 1)
    engine.unload()


@pytest.mark.parametrize("times", [1, 2])
def test_measuring_without_memory_is_tried_once_more_and_then_refused(
    times: int,
    tiny_checkpoint: Checkpoints,
    emptied: list[torch.device],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = SimulatedCard(24 * 10**9)
    monkeypatch.setattr(device, "card_on", lambda place: card)
    left = [torch.OutOfMemoryError("CUDA out of memory.")] * times
    measured = GraphRunner.costs

    def costs(parts: GraphRunner) -> Costs:
        if left:
            raise left.pop()
        return measured(parts)

    monkeypatch.setattr(GraphRunner, "costs", costs)
    monkeypatch.setattr(loading, "measures", lambda place: True)
    folder = tiny_checkpoint("0.6B-CustomVoice")
    if times == 1:
        engine_of(folder, "captured", 1).unload()
    else:
        with pytest.raises(SetupError, match=r"ran out .* = "):
            engine_of(folder, "captured", 1)
    assert emptied and not left


@pytest.mark.parametrize("times", [1, 2])
def test_asking_what_computes_attention_is_part_of_the_load(
    times: int,
    tiny_checkpoint: Checkpoints,
    emptied: list[torch.device],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes a little memory, which may be short, and is not asked again."""
    monkeypatch.setattr(device, "card_on", lambda place: SimulatedCard(24 * 10**9))
    left = [torch.OutOfMemoryError("CUDA out of memory.")] * times
    usual = Batch._attention

    def asked(batch: Batch, steps: int) -> str:
        if left:
            raise left.pop()
        return usual(batch, steps)

    monkeypatch.setattr(Batch, "_attention", asked)
    folder = tiny_checkpoint("0.6B-CustomVoice")
    if times == 1:
        engine = engine_of(folder, "plain", 1)
        left += [torch.OutOfMemoryError("CUDA out of memory.")]
        assert "prompts: " in engine._describe().details["attention"]
        engine.unload()
    else:
        with pytest.raises(SetupError, match=r"ran out .* = "):
            engine_of(folder, "plain", 1)
    assert emptied


@pytest.mark.parametrize("where", ["start", "launch", "send", "extend", "clone"])
async def test_a_lost_device_ends_the_engine_for_good(
    where: str, tiny_checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody is told, nothing hangs, and the process ends with its own status."""
    engine = engine_of(tiny_checkpoint("0.6B-Base"), "captured")
    loop = EngineLoop(engine)
    loop.start()
    lost: Any = RuntimeError("CUDA error: an illegal memory access was encountered")

    def fail(*_: object, **__: object) -> None:
        raise lost

    try:
        other = loop.open(saying(engine, LONG, 200))
        async with asyncio.timeout(30):
            await anext(other)
            if where == "clone":
                monkeypatch.setattr("vivavoce.engines.qwen3.cloning.clone_voice", fail)
                with pytest.raises(Exception, match="log says more"):
                    loop.guarded.clone(noise())
            else:
                monkeypatch.setattr(Batch, where, fail)
                late = loop.open(saying(engine, "Hello there, you", 200, text_open=True))
                if where == "extend":
                    await anext(late)
                    late.extend(" and more words")
                with pytest.raises((EngineError, EngineFailed)):
                    _ = [piece async for piece in late]
            with pytest.raises(EngineFailed):
                _ = [piece async for piece in other]
        assert loop.failure is not None and loop.failure.exit_status == 70
    finally:
        await asyncio.to_thread(loop.stop)
