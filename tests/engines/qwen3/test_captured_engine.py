"""The engine on the recording stand-in: it speaks as the plain one, and leaves nothing behind."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vivavoce.engines.base import Produced
from vivavoce.engines.qwen3.device import choose_place
from vivavoce.engines.qwen3.engine import Qwen3Engine
from vivavoce.engines.qwen3.frame_runner import GraphRunner
from vivavoce.engines.qwen3.graphs import Capturing, capturing_on
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.engines.qwen3.pace import RAMP, sound_buckets
from vivavoce.engines.qwen3.prefill import KeptVoices
from vivavoce.runtime.graphs import compiled, cuda
from vivavoce.runtime.graphs.api import LENGTH_BUCKETS, Held
from vivavoce.testing.recorded_graphs import RecordingGraphs
from vivavoce.types import ReferenceAudio, Sampling, Span, Utterance

Checkpoints = Callable[[str], Path]
LONG = "A sentence that goes on for longer than a few frames."
PIECES = " ".join([LONG] * 7)
"""So long that a prompt which holds all of it is read in two pieces."""
ROWS = 4


def loaded(folder: Path, graphs: RecordingGraphs | None) -> Qwen3Engine:
    options = Qwen3Options(model=folder, device="cpu", threads=1, positions=128, capacity=ROWS)
    engine = Qwen3Engine(options, None if graphs is None else Capturing(graphs))
    engine.load()
    return engine


@pytest.fixture(scope="module")
def plain(tiny_checkpoint: Checkpoints) -> Iterator[Qwen3Engine]:
    engine = loaded(tiny_checkpoint("0.6B-Base"), None)
    yield engine
    engine.unload()


@pytest.fixture(scope="module", params=["late", pytest.param("early", marks=pytest.mark.slow)])
def captured(request: pytest.FixtureRequest, tiny_checkpoint: Checkpoints) -> Iterator[Qwen3Engine]:
    api = RecordingGraphs(eager=request.param == "early")
    engine = loaded(tiny_checkpoint("0.6B-Base"), api)
    yield engine
    assert engine._batch is not None and engine._batch.on_the_way == 0
    engine.unload()
    assert api.account.held == Held()


def saying(engine: Qwen3Engine, text: str = "Hello.", frames: int = 6, **how: Any) -> Utterance:
    options = {"max_frames": frames, "guards": False} | how.pop("options", {})
    whole: dict[str, Any] = {"voice": engine.voices()[0], "sampling": Sampling(seed=7)} | how
    return Utterance((Span(text),), options=options, **whole)


def run(engine: Qwen3Engine, slots: Sequence[int]) -> dict[int, list[Produced]]:
    pieces: dict[int, list[Produced]] = {slot: [] for slot in slots}
    live = set(slots)
    for _ in range(600):
        if not live:
            return pieces
        for produced in engine.step():
            pieces[produced.slot].append(produced)
            if produced.last:
                live.remove(produced.slot)
    raise AssertionError("it never ended")


def spoken(engine: Qwen3Engine, each: Utterance) -> tuple[np.ndarray, np.ndarray, list[Produced]]:
    slot = engine.admit(each)
    codes = engine.record(slot)
    pieces = run(engine, [slot])[slot]
    return np.stack(codes), np.concatenate([piece.samples for piece in pieces]), pieces


def wanted(engine: Qwen3Engine) -> list[Utterance]:
    noise = (0.1 * np.random.default_rng(0).standard_normal(24_000)).astype(np.float32)
    cloned = engine.clone(ReferenceAudio(noise, 16_000, "Some words."))
    return [
        saying(engine, LONG, 17),
        saying(engine, frames=1),
        saying(engine, LONG, 9, sampling=Sampling(seed=1, top_p=0.8)),
        saying(engine, "Two.", 12, voice=cloned),
        saying(engine, "Two.", 5, options={"greedy": True}),
    ]


def test_it_speaks_as_the_plain_engine(plain: Qwen3Engine, captured: Qwen3Engine) -> None:
    for each in wanted(plain):
        codes, sound, pieces = spoken(captured, each)
        expected, expected_sound, expected_pieces = spoken(plain, each)
        np.testing.assert_array_equal(codes, expected)
        np.testing.assert_allclose(sound, expected_sound, atol=1e-4)
        assert pieces[-1].finish_reason == expected_pieces[-1].finish_reason
        assert len(pieces[0].samples) == 1920  # the first sound is one frame


def test_in_company_too(plain: Qwen3Engine, captured: Qwen3Engine) -> None:
    """Five calls over four rows, each a step after the other, against each by itself."""
    every = wanted(plain)
    alone = [spoken(plain, each)[0] for each in every]
    codes, live, waiting = [], set[int](), list(every)
    while waiting or live:
        if waiting and len(live) < ROWS:
            slot = captured.admit(waiting.pop(0))
            codes.append(captured.record(slot))
            live.add(slot)
        live -= {produced.slot for produced in captured.step() if produced.last}
    for said, expected in zip(codes, alone, strict=True):
        np.testing.assert_array_equal(np.stack(said), expected)


def test_everything_is_replayed(captured: Qwen3Engine) -> None:
    assert captured._batch is not None
    parts = captured._batch._runner
    assert isinstance(parts, GraphRunner)
    before = [c.counts.eager for c in (parts.frames.captures, parts.windows.captures)]
    spoken(captured, saying(captured, LONG, 20))
    after = [c.counts.eager for c in (parts.frames.captures, parts.windows.captures)]
    assert after == before
    assert captured.info.details["graphs_failed"] == 0


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_text_in_pieces(plain: Qwen3Engine, captured: Qwen3Engine, steps: int) -> None:
    """However late a piece comes, a frame that did not know of it does not stop the row."""

    def said(engine: Qwen3Engine) -> np.ndarray:
        slot = engine.admit(saying(engine, "Hello", 14, text_open=True))
        codes = engine.record(slot)
        for piece in (" there,", " my", " friend."):
            for _ in range(steps):
                engine.step()
            engine.extend(slot, piece)
        engine.finish(slot)
        run(engine, [slot])
        return np.stack(codes)

    assert captured._batch is not None
    parts = captured._batch._runner
    assert isinstance(parts, GraphRunner)
    counts = parts.windows.captures.counts
    eager = counts.eager
    np.testing.assert_array_equal(said(captured), said(plain))
    assert counts.eager == eager  # whatever waits when a row runs out of text


def test_hanging_up_frees_a_row_within_a_frame_under_load(captured: Qwen3Engine) -> None:
    """The next step already speaks for somebody else in it, and nothing of the old is heard."""
    expected = spoken(captured, saying(captured, "Next.", 5))[0]
    slots = [
        captured.admit(saying(captured, LONG, 60, sampling=Sampling(seed=n))) for n in range(ROWS)
    ]
    for _ in range(ROWS + 2):
        captured.step()
    captured.release(slots[1])
    again = captured.admit(saying(captured, "Next.", 5))
    codes = captured.record(again)
    assert again == slots[1]
    captured.step()
    captured.step()  # one frame late
    assert len(codes) == 1
    while not any(p.slot == again and p.last for p in captured.step()):
        pass
    np.testing.assert_array_equal(np.stack(codes), expected)
    for slot in slots:
        captured.release(slot)


@pytest.mark.parametrize("kind", ["plain", "captured"])
@pytest.mark.parametrize(("known", "read"), [(True, 1), (False, 1), (False, 2)])
def test_hanging_up_between_two_pieces_of_a_prompt_changes_nobodys_words(
    kind: str, known: bool, read: int, plain: Qwen3Engine, captured: Qwen3Engine
) -> None:
    """Another call speaks meanwhile, and a third takes the row, with a long prompt of its own.

    ``known``: the voice was used before, so that what its prompts begin with is not read again.
    """
    engine = {"plain": plain, "captured": captured}[kind]
    assert engine._batch is not None
    whole = {"text_layout": "whole"}
    speaker = saying(engine, LONG, 25, sampling=Sampling(seed=1))
    leaver = saying(engine, PIECES + " It is left early.", 20, options=whole)
    taker = saying(engine, PIECES, 12, sampling=Sampling(seed=3), options=whole)
    alone = [spoken(plain, each)[0] for each in (speaker, taker)]
    speaking = engine.admit(speaker)
    codes = [engine.record(speaking)]
    while len(codes[0]) < 2:
        engine.step()
    if not known:
        engine._batch._kept = KeptVoices(torch.device("cpu"))
    leaving = engine.admit(leaver)
    heard = engine.record(leaving)
    for _ in range(read):
        engine.step()
    assert engine._readings is not None and leaving in engine._readings._under_way
    assert not heard, "its prompt is still being read"
    engine.release(leaving)
    assert leaving not in engine._readings._under_way
    taking = engine.admit(taker)
    assert taking == leaving
    codes.append(engine.record(taking))
    pieces = run(engine, [speaking, taking])
    for said, expected in zip(codes, alone, strict=True):
        np.testing.assert_array_equal(np.stack(said), expected)
    assert all(each[-1].error is None for each in pieces.values())
    assert not any(left_behind(engine).values())


def test_a_first_sound_is_made_before_anybodys_next_frame(captured: Qwen3Engine) -> None:
    """Else it would share the device with a frame that nobody waits for as much."""
    assert captured._capturing is not None
    api = captured._capturing.api
    assert isinstance(api, RecordingGraphs)
    other = captured.admit(saying(captured, LONG, 60))
    for _ in range(6):
        captured.step()
    slot = captured.admit(saying(captured, "Next.", 5))
    api.replays.clear()
    captured.step()
    captured.step()
    made = list(api.replays)
    frames = [at for at, name in enumerate(made) if name.startswith("frame")]
    sound = made.index("codec WindowKey(rows=1, frames=1)")
    assert frames[0] < sound < frames[1]
    for each in (slot, other):
        captured.release(each)


def account(engine: Qwen3Engine) -> Held:
    assert engine._capturing is not None
    return engine._capturing.api.account.held


def come_and_go(engine: Qwen3Engine, joins: int, seed: int) -> None:
    rng, live, joined = random.Random(seed), set[int](), 0
    while joined < joins or live:
        while joined < joins and len(live) < ROWS and rng.random() < 0.8:
            how = {"sampling": Sampling(seed=joined)}
            live.add(
                engine.admit(saying(engine, rng.choice(("Hi.", LONG)), rng.randint(1, 5), **how))
            )
            joined += 1
        live -= {produced.slot for produced in engine.step() if produced.last}
        for slot in sorted(live):
            if rng.random() < 0.3:
                engine.release(slot)
                live.remove(slot)


def left_behind(engine: Qwen3Engine) -> dict[str, Any]:
    batch = engine._batch
    assert batch is not None
    state = batch._rows.state
    return {
        "rows": engine._rows.taken,
        "speeches": len(engine._speeches),
        "active": int(state.active.sum()),
        "moved": int((state.positions != state.text.shape[1] - 1).sum()),
        "at": sum(batch._at),
        "host buffers": batch.on_the_way,
        "pending": engine._pipeline.pending is not None,
    }


@pytest.mark.parametrize("joins", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_joins_and_leaves_leave_nothing_behind(captured: Qwen3Engine, joins: int) -> None:
    before, rest = spoken(captured, saying(captured, LONG))[0], left_behind(captured)
    held = account(captured)
    come_and_go(captured, joins, seed=joins)
    assert left_behind(captured) == rest
    assert not any(rest.values())
    assert account(captured) == held
    np.testing.assert_array_equal(spoken(captured, saying(captured, LONG))[0], before)


def test_a_row_that_breaks_ends_alone(captured: Qwen3Engine) -> None:
    expected = spoken(captured, saying(captured, LONG))[0]
    good, bad = captured.admit(saying(captured, LONG)), captured.admit(saying(captured, LONG))
    codes = captured.record(good)
    captured.step()
    captured.step()
    assert captured._batch is not None
    state = captured._batch._rows.state
    state.hidden[bad], state.pending[bad] = torch.nan, torch.nan
    pieces = run(captured, [good, bad])
    assert pieces[bad][-1].error is not None and pieces[good][-1].error is None
    np.testing.assert_array_equal(np.stack(codes), expected)


def test_what_cannot_be_captured_is_counted_and_speaks(
    plain: Qwen3Engine, tiny_checkpoint: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        engine = loaded(tiny_checkpoint("0.6B-Base"), RecordingGraphs(refuses=lambda name: True))
    assert len(caplog.records) == 3  # frames, prompts, chunks
    assert engine.info.details["graphs_captured"] == 0
    sound = sum(len(sound_buckets(frames, engine.capacity)) for frames in RAMP)
    assert engine.info.details["graphs_failed"] > len(LENGTH_BUCKETS) + sound
    assert engine.info.details["graphs_eager"] == 0
    each = saying(plain, LONG, 9)
    np.testing.assert_array_equal(spoken(engine, each)[0], spoken(plain, each)[0])
    assert engine.info.details["graphs_eager"] > 9 > engine.info.details["graphs_replayed"] == 0
    engine.unload()


def test_pageable_memory_will_do(plain: Qwen3Engine, tiny_checkpoint: Checkpoints) -> None:
    refuses = RecordingGraphs(pins=False, refuses=lambda name: True)
    engine = loaded(tiny_checkpoint("0.6B-Base"), refuses)
    each = replace(saying(plain, LONG, 4), sampling=Sampling(seed=3))
    np.testing.assert_array_equal(spoken(engine, each)[0], spoken(plain, each)[0])
    engine.unload()


@pytest.mark.parametrize(
    ("options", "mode", "level"),
    [
        (Qwen3Options(), "max-autotune-no-cudagraphs", None),
        (Qwen3Options(torch_compile_mode="off"), None, None),
        (Qwen3Options(cuda_graphs=False), None, logging.INFO),
        (Qwen3Options(cuda_graphs=False, torch_compile_mode="default"), None, logging.WARNING),
        (Qwen3Options(cuda_graphs=False, torch_compile_mode="off"), None, None),
    ],
)
def test_compiled_code_is_kept_and_a_mode_without_captures_is_told(
    options: Qwen3Options,
    mode: str | None,
    level: int | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Kernels are compiled without captures as well, and without torch.compile."""
    kept: list[Path] = []
    monkeypatch.setattr(compiled, "cache_on_disk", kept.append)
    monkeypatch.setattr(cuda, "CudaGraphs", lambda device: RecordingGraphs())
    monkeypatch.setattr(compiled, "processors", lambda device: 132)
    place = choose_place(Qwen3Options(device="cpu"))
    with caplog.at_level(logging.INFO, logger="vivavoce.engines.qwen3.graphs"):
        assert capturing_on(place, options) is None and not kept
        found = capturing_on(replace(place, device=torch.device("cuda")), options)
    assert kept == [compiled.cache_folder()]
    assert (found is None) == (options.cuda_graphs is False)
    assert found is None or found.mode == mode
    told = [each.levelno for each in caplog.records if "torch_compile_mode" in each.message]
    assert told == ([] if level is None else [level])


@pytest.mark.parametrize(
    ("asked", "count", "mode", "level"),
    [
        (None, 24, "default", logging.INFO),
        ("max-autotune", 67, "default", logging.WARNING),
        ("max-autotune", 68, "max-autotune-no-cudagraphs", None),
        ("reduce-overhead", 24, "default", None),
        ("off", 24, None, None),
    ],
)
def test_a_small_gpu_is_spared_max_autotune(
    asked: Any,
    count: int,
    mode: str | None,
    level: int | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It would compile for minutes with nothing to choose from; that it does not is said."""
    monkeypatch.setattr(compiled, "cache_on_disk", lambda folder: None)
    monkeypatch.setattr(cuda, "CudaGraphs", lambda device: RecordingGraphs())
    monkeypatch.setattr(compiled, "processors", lambda device: count)
    place = replace(choose_place(Qwen3Options(device="cpu")), device=torch.device("cuda"))
    with caplog.at_level(logging.INFO, logger="vivavoce.engines.qwen3.graphs"):
        found = capturing_on(place, Qwen3Options(torch_compile_mode=asked))
    assert found is not None and found.mode == mode
    assert [each.levelno for each in caplog.records] == ([] if level is None else [level])
    words = f"default (max-autotune has templates from 68 multiprocessors on, this GPU has {count})"
    assert found.compiled == (asked if level is None else words)
    assert all(f"this GPU has {count}" in each.message for each in caplog.records)


def test_how_the_codec_is_compiled_is_told(captured: Qwen3Engine) -> None:
    assert captured.info.details["torch_compile"] == "off"
