"""Rows by the memory there is, and a refusal that adds up."""

from __future__ import annotations

import gc
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from weakref import ref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engines.qwen3.simulated_card import SimulatedCard
from vivavoce.engines.qwen3 import cloning, device, memory
from vivavoce.engines.qwen3.batch import Batch
from vivavoce.engines.qwen3.device import card_on, choose_place
from vivavoce.engines.qwen3.engine import Qwen3Engine
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.memory import (
    CLONE_WORK_BYTES,
    MIB,
    Footprint,
    footprint,
    planned_footprint,
    rows_within,
)
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.engines.qwen3.voices import ClonedVoice
from vivavoce.errors import SetupError
from vivavoce.runtime.cuda import CardMemory
from vivavoce.runtime.device_errors import is_lost
from vivavoce.runtime.kernels.dispatch import Path as KernelPath
from vivavoce.runtime.kernels.dispatch import chosen
from vivavoce.runtime.nn import int8_cpu
from vivavoce.runtime.nn.weights import Precision
from vivavoce.types import ReferenceAudio

Checkpoints = Callable[[str], Path]
SMALL = Footprint(weights=1500 * MIB, row=122 * MIB)
CLONES = replace(SMALL, encoders=224 * MIB)
sizes = st.integers(1, 3000).map(lambda mb: mb * MIB)


@given(st.builds(Footprint, sizes, sizes), sizes.map(lambda size: 8 * size), st.integers(1, 64))
def test_rows_are_as_many_as_fit(needs: Footprint, budget: int, most: int) -> None:
    try:
        rows = rows_within(needs, budget, most, fixed=False)
    except SetupError:
        assert needs.total(1) > budget
        return
    assert 1 <= rows <= most and needs.total(rows) <= budget
    assert rows == most or needs.total(rows + 1) > budget


def test_rows_that_were_asked_for_fit_or_are_refused() -> None:
    assert rows_within(SMALL, SMALL.total(4), 4, fixed=True) == 4
    with pytest.raises(SetupError, match="4 x 170 for rows"):
        rows_within(SMALL, SMALL.total(4) - 1, 4, fixed=True)


def test_the_sum_adds_up() -> None:
    numbers = [int(number) for number in re.findall(r"\d+", SMALL.sum(3))]
    weights, kept, work, rows, row, total = numbers
    assert weights + kept + work + rows * row == total
    assert total * MIB == SMALL.total(3)


def test_what_cloning_needs_is_in_the_sum_and_named() -> None:
    cloning = 224 * MIB + CLONE_WORK_BYTES
    assert CLONES.total(2) == SMALL.total(2) + cloning
    assert f"weights 1500 + cloning {cloning // MIB} + " in CLONES.sum(2)
    assert "cloning" not in SMALL.sum(2)
    with pytest.raises(SetupError, match="cloning"):
        rows_within(CLONES, SMALL.total(2), 2, fixed=True)


def test_a_model_that_clones_takes_its_encoders_too(tiny_checkpoint: Checkpoints) -> None:
    """Whether they were read or not."""
    place = choose_place(Qwen3Options(device="cpu"))
    model = Model.load(tiny_checkpoint("0.6B-Base"), place)
    before = footprint(model, 128)
    assert planned_footprint(model.config, place, 128) == before
    alone = model.weights_bytes()
    heard = model.encoder(), model.speaker()
    held = [tensor for each in heard for tensor in (*each.parameters(), *each.buffers())]
    assert before.encoders == sum(tensor.nbytes for tensor in held) > 0
    assert model.weights_bytes() == alone + before.encoders
    assert footprint(model, 128) == before


def test_one_voice_is_made_at_a_time(
    tiny_checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is memory set aside for one."""
    engine = Qwen3Engine(Qwen3Options(model=tiny_checkpoint("0.6B-Base"), device="cpu"))
    engine.load()
    making, most = [0], [0]

    def slowly(*_: object) -> ClonedVoice:
        making[0] += 1
        most[0] = max(most[0], making[0])
        time.sleep(0.02)
        making[0] -= 1
        return ClonedVoice(np.zeros(4, np.float32))

    monkeypatch.setattr(cloning, "clone_voice", slowly)
    reference = ReferenceAudio(np.zeros(24_000, np.float32), 24_000)
    with ThreadPoolExecutor(3) as pool:
        voices = list(pool.map(engine.clone, [reference] * 3))
    engine.unload()
    assert most == [1] and len(voices) == 3


def test_a_row_takes_what_is_said(tiny_checkpoint: Checkpoints) -> None:
    options = Qwen3Options(device="cpu")
    model = Model.load(tiny_checkpoint("0.6B-CustomVoice"), choose_place(options))
    needs = footprint(model, 128)
    two, five = (Batch(model, rows, 128).memory_bytes() for rows in (2, 5))
    assert five - two == 3 * needs.row
    assert needs.weights == model.weights_bytes()
    assert footprint(model, 256).row > needs.row


@pytest.mark.parametrize("name", ["0.6B-CustomVoice", "1.7B-CustomVoice", "1.7B-Base"])
@pytest.mark.parametrize("quantize", ["none", "int8", "fp8"])
def test_it_is_known_before_anything_is_read(
    name: str, quantize: str, tiny_checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables that kernels read included."""
    monkeypatch.setattr(int8_cpu, "available", lambda: False)  # as on a GPU
    kernels = chosen(torch.device("cpu"), torch.bfloat16)
    told = replace(kernels, path=KernelPath.TRITON)
    monkeypatch.setattr(memory, "chosen", lambda *_: told)
    place = choose_place(Qwen3Options(device="cpu", dtype="bfloat16"))
    place = replace(place, precision=Precision(quantize))
    model = Model.load(tiny_checkpoint(name), place)
    assert planned_footprint(model.config, place, 128) == footprint(model, 128)
    fused = FusedTalker.of(model.talker, kernels, 1)
    made = 0 if fused.tables[0].shape == fused.others[0].shape else len(fused.tables)
    extra = made * fused.tables[0].nbytes
    assert footprint(model, 128).weights == model.weights_bytes() + extra


def test_an_engine_has_the_rows_that_fit_or_does_not_start(
    tiny_checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_checkpoint("0.6B-CustomVoice")
    options = Qwen3Options(model=folder, device="cpu", positions=128)
    place = choose_place(options)
    assert card_on(place) is None  # a CPU's memory is not counted
    needs = footprint(Model.load(folder, place), 128)
    card = SimulatedCard(24 * 10**9)
    monkeypatch.setattr(device, "card_on", lambda place: card)
    for free, rows in ((needs.total(2), 1), (needs.total(1) - 1, 0)):
        card.others = card.total - free
        engine = Qwen3Engine(options)
        if rows:
            engine.load()
            assert engine.capacity == engine.info.details["rows"] == rows
            engine.unload()
        else:
            monkeypatch.setattr(Model, "load", not_called)
            with pytest.raises(SetupError, match=r"weights .* = "):
                engine.load()
            assert not engine.info.details["loaded"]


@pytest.mark.parametrize("budget_mb", [0, 900])
def test_what_was_planned_is_held_from_the_load_on_and_given_back(
    budget_mb: int,
    tiny_checkpoint: Checkpoints,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Planned and real are in the log, and what stays after the unload."""
    options = Qwen3Options(
        model=tiny_checkpoint("0.6B-CustomVoice"), positions=128, gpu_memory_budget_mb=budget_mb
    )
    place = choose_place(Qwen3Options(device="cpu"))
    monkeypatch.setattr(device, "choose_place", lambda options: place)
    card, during = SimulatedCard(24 * 10**9), []
    monkeypatch.setattr(device, "card_on", lambda place: card)
    read = Model.load

    def load(folder: Path, place: object) -> Model:
        during.append(card.limit_bytes)
        card.take(100 * MIB)
        return read(folder, place)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "load", load)
    engine = Qwen3Engine(options)
    with caplog.at_level(logging.INFO, logger="vivavoce.engines.qwen3.memory"):
        engine.load()
        needs = footprint(engine._loaded(), 128)
        assert card.reserved == needs.total(engine.capacity)
        assert during == [budget_mb * MIB or None]
        card.free_all()
        card.reserved = 17 * MIB
        engine.unload()
    loaded, compared, unloaded = (record.getMessage() for record in caplog.records)
    assert "MB for graphs and work, 0 of" in compared
    assert needs.sum(engine.capacity) in loaded and "100 MB taken" in loaded
    assert "17 MB stay" in unloaded and card.limit_bytes is None


@pytest.mark.parametrize("when", ["reading", "holding"])
def test_another_program_that_takes_memory_between_plan_and_load_is_told_with_the_sum(
    when: str, tiny_checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Qwen3Options(model=tiny_checkpoint("0.6B-CustomVoice"), device="cpu", positions=128)
    card = SimulatedCard(24 * 10**9)
    monkeypatch.setattr(device, "card_on", lambda place: card)
    read = Model.load

    def load(folder: Path, place: object) -> Model:
        card.others_take(1.0)
        if when == "reading":
            card.take(1)
        return read(folder, place)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "load", load)
    engine = Qwen3Engine(options)
    with pytest.raises(SetupError, match=r"ran out .* = .* were free before, and 0 MB are now"):
        engine.load()
    assert not engine.info.details["loaded"]
    card.others = 0
    monkeypatch.setattr(Model, "load", read)
    engine.load()
    engine.unload()


def test_a_card_that_vanishes_is_no_refusal(
    tiny_checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is lost, which ends the process: the loop knows such errors."""
    options = Qwen3Options(model=tiny_checkpoint("0.6B-CustomVoice"), device="cpu", positions=128)
    card = SimulatedCard(24 * 10**9)

    def gone() -> CardMemory:
        raise RuntimeError("CUDA error: no CUDA-capable device is detected")

    monkeypatch.setattr(card, "memory", gone)
    monkeypatch.setattr(device, "card_on", lambda place: card)
    with pytest.raises(RuntimeError) as caught:
        Qwen3Engine(options).load()
    assert is_lost(caught.value)


@pytest.mark.parametrize("when", ["reading", "holding"])
def test_a_card_that_vanishes_during_the_load_is_no_refusal_either(
    when: str, tiny_checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is one whose memory cannot be asked any more when it is to be given back."""
    options = Qwen3Options(model=tiny_checkpoint("0.6B-CustomVoice"), device="cpu", positions=128)
    card = SimulatedCard(24 * 10**9)
    monkeypatch.setattr(device, "card_on", lambda place: card)
    read = Model.load

    def gone(*_: object) -> CardMemory:
        raise RuntimeError("CUDA error: device is lost")

    def load(folder: Path, place: object) -> Model:
        monkeypatch.setattr(card, "memory", gone)
        if when == "reading":
            gone()
        return read(folder, place)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "load", load)
    engine = Qwen3Engine(options)
    with pytest.raises(RuntimeError) as caught:
        engine.load()
    assert is_lost(caught.value)
    assert not engine.info.details["loaded"]


def test_a_load_that_fails_gives_back_what_it_took(
    tiny_checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory in the middle of it, say; and the next try may succeed."""
    options = Qwen3Options(model=tiny_checkpoint("0.6B-CustomVoice"), device="cpu", positions=128)
    engine = Qwen3Engine(options)
    whole, held = Batch.memory_bytes, []

    def fails(batch: Batch) -> int:
        held.append(ref(batch))
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Batch, "memory_bytes", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.load()
    assert not engine.info.details["loaded"]
    gc.collect()
    assert held[0]() is None
    monkeypatch.setattr(Batch, "memory_bytes", whole)
    engine.load()
    assert engine.info.details["loaded"]
    engine.unload()


def not_called(*_: object) -> Model:
    raise AssertionError("It reads what does not fit.")
