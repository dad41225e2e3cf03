"""The frame step: company, text in pieces, ends, and compilation. Float64, so no near-tie flips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engines.qwen3.tiny import (
    GREEDY,
    Bench,
    alone,
    config_of,
    louder_end,
    tiny_json,
    tiny_talker,
)
from vivavoce.engines.qwen3.config import ModelKind, Qwen3Config
from vivavoce.engines.qwen3.frame import FrameIds, frame
from vivavoce.engines.qwen3.prompt import Layout, PromptInputs, Reference
from vivavoce.engines.qwen3.rows import RowOptions
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.runtime.kernels.frame_ends import Status
from vivavoce.runtime.nn.sampling import SamplerOptions

OVER = Status.ENDED | Status.LIMIT | Status.FAILED
GROUPS = 4
ROWS = 3
EOS_TEXT = 904
TEXT = [31, 7, 250, 611, 48, 93, 870]
DRAWN = RowOptions(max_frames=9, seed=5)
SHARP = SamplerOptions(temperature=0.7, top_k=30, top_p=0.8)


@cache
def config(kind: ModelKind = "custom_voice") -> Qwen3Config:
    return config_of(tiny_json(kind, wide=True, groups=GROUPS))


@cache
def talker(*, loud: bool = False) -> Talker:
    made = tiny_talker(config(), dtype=torch.float64).requires_grad_(False)
    if loud:
        louder_end(made, config(), 6.0)
    return made


def bench(kind: ModelKind = "custom_voice", *, rows: int = ROWS, loud: bool = False) -> Bench:
    return Bench.build(config(kind), talker(loud=loud), rows=rows, positions=64)


def ryan(text: Sequence[int] = TEXT, **more: Any) -> PromptInputs:
    return replace(PromptInputs(text, "english", "ryan"), **more)


@dataclass(frozen=True)
class Script:
    """One utterance of a mode of its own."""

    kind: ModelKind
    speaking: PromptInputs
    options: RowOptions


def scripts() -> list[Script]:
    codes = torch.randint(2048, (5, GROUPS), generator=torch.Generator().manual_seed(1))
    vector = torch.linspace(-1, 1, 48)
    cloned = PromptInputs(TEXT[:3], "french", x_vector=vector)
    reference = Reference([5, 6], codes)
    instruct = (410, 77, 3)
    return [
        Script("custom_voice", ryan(), DRAWN),
        Script("custom_voice", ryan(TEXT[:2], layout=Layout.WHOLE), replace(GREEDY, max_frames=6)),
        Script("custom_voice", ryan(instruct_ids=instruct), replace(DRAWN, seed=2**50)),
        Script(
            "voice_design", PromptInputs(TEXT, instruct_ids=instruct), replace(DRAWN, codes=SHARP)
        ),
        Script("base", cloned, RowOptions(talker=SHARP, max_frames=7, repetition_penalty=1.4)),
        Script("base", replace(cloned, reference=reference), replace(DRAWN, seed=11)),
        Script("base", replace(cloned, text_ids=TEXT, reference=reference), GREEDY),
    ]


@cache
def expected(number: int) -> tuple[tuple[int, ...], ...]:
    """The codes of a script by itself."""
    script = scripts()[number]
    codes, _ = alone(bench(script.kind, rows=1, loud=True), script.speaking, script.options)
    return tuple(tuple(row) for row in codes.tolist())


def test_the_scripts_differ_and_some_end_by_themselves() -> None:
    spoken = [expected(number) for number in range(len(scripts()))]
    assert len(set(spoken)) == len(spoken)
    limits = [script.options.max_frames for script in scripts()]
    assert any(len(codes) < limit for codes, limit in zip(spoken, limits, strict=True))
    assert any(len(codes) == limit for codes, limit in zip(spoken, limits, strict=True))


joins = st.lists(
    st.tuples(st.integers(0, len(scripts()) - 1), st.integers(0, 4), st.integers(1, 12)),
    min_size=2,
    max_size=7,
)


@settings(max_examples=12, deadline=None)
@given(joins)
def test_a_row_speaks_in_any_company_as_it_does_alone(plan: list[tuple[int, int, int]]) -> None:
    """Each join: which script, frames to wait before it, frames after which it is released."""
    made = bench(loud=True)
    waiting, live = list(plan), dict[int, tuple[int, int, list[list[int]]]]()
    pause = waiting[0][1]
    while waiting or live:
        free = [row for row in range(ROWS) if row not in live]
        if waiting and free and pause <= 0:
            number, _, stay = waiting.pop(0)
            script = scripts()[number]
            replace(made, config=config(script.kind)).start(
                free[-1], script.speaking, script.options
            )
            live[free[-1]] = (number, stay, [])
            pause = waiting[0][1] if waiting else 0
        pause -= 1
        results = made.frame()
        for row, (number, stay, heard) in list(live.items()):
            status, codes = results[row]
            if Status.EMITTED in status:
                heard.append(codes.tolist())
            if status & OVER or len(heard) >= stay:
                complete = expected(number) if status & OVER else expected(number)[: len(heard)]
                assert tuple(map(tuple, heard)) == complete
                made.rows.release(row)
                del live[row]


def in_pieces(
    made: Bench, pieces: Sequence[Sequence[int]], arrivals: Sequence[int], options: RowOptions
) -> list[list[int]]:
    """Codes of a text that comes in pieces, each some frames after the one before."""
    made.start(0, ryan(pieces[0], text_open=True), options)
    left = [*pieces[1:], None]
    delays = [*arrivals]
    heard = []
    while True:
        while left and delays[0] <= 0:
            piece = left.pop(0)
            delays.pop(0)
            if piece is None:
                made.rows.finish(0, EOS_TEXT)
            else:
                made.rows.extend(0, piece)
        delays = [delays[0] - 1, *delays[1:]] if delays else []
        status, codes = made.frame()[0]
        if Status.EMITTED in status:
            heard.append(codes.tolist())
        if status & OVER:
            made.rows.release(0)
            return heard


@cache
def spoken_whole(seed: int, loud: bool) -> list[list[int]]:
    options = replace(DRAWN, max_frames=12, seed=seed)
    return in_pieces(bench(rows=1, loud=loud), [TEXT], [0], options)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_splitting_of_a_text_gives_the_codes_of_the_whole(data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(TEXT) - 1))))
    edges = [0, *cuts, len(TEXT)]
    pieces = [TEXT[start:stop] for start, stop in pairwise(edges)]
    delay = st.integers(0, 4)
    arrivals = data.draw(st.lists(delay, min_size=len(pieces), max_size=len(pieces)))
    loud = data.draw(st.booleans())
    options = replace(DRAWN, max_frames=12, seed=data.draw(st.integers(0, 3)))
    split = in_pieces(bench(rows=1, loud=loud), pieces, arrivals, options)
    assert split == spoken_whole(options.seed, loud)


def test_text_in_pieces_gives_what_a_closed_text_gives() -> None:
    closed, _ = alone(bench(rows=1), ryan(), DRAWN)
    assert in_pieces(bench(rows=1), [TEXT[:1], TEXT[1:]], [3, 2], DRAWN) == closed.tolist()


def test_a_row_out_of_text_gives_its_frame_and_waits() -> None:
    made = bench(rows=1)
    made.start(0, ryan(TEXT[:2], text_open=True), DRAWN)
    statuses = [made.frame()[0][0] for _ in range(4)]
    assert statuses == [
        Status.EMITTED,
        Status.EMITTED | Status.WAITING,
        Status.WAITING,
        Status.WAITING,
    ]
    made.rows.extend(0, [99])
    assert made.frame()[0][0] == Status.EMITTED | Status.WAITING


def test_open_text_does_not_end() -> None:
    loud = replace(bench(rows=1), talker=deafening())
    loud.start(0, ryan(TEXT[:4], text_open=True), replace(GREEDY, max_frames=30))
    assert all(Status.ENDED not in loud.frame()[0][0] for _ in range(8))
    loud.rows.finish(0, EOS_TEXT)
    assert loud.frame()[0][0] == Status.ENDED


def deafening() -> Talker:
    """Draws the end of speech whenever it may."""
    made = tiny_talker(config(), dtype=torch.float64).requires_grad_(False)
    made.model.norm.weight.data = made.model.norm.weight.abs()

    def always(hidden: Tensor) -> Tensor:
        scores = torch.nn.functional.linear(hidden, made.codec_head.weight)
        scores[:, config().talker.codec_eos_token_id] = 1e6
        return scores

    made.codec_head.forward = always
    return made


def test_the_first_two_frames_are_no_end() -> None:
    made = replace(bench(rows=1), talker=deafening())
    made.start(0, ryan(), replace(GREEDY, max_frames=30))
    statuses = [made.frame()[0][0] for _ in range(4)]
    assert statuses == [Status.EMITTED, Status.EMITTED, Status.ENDED, Status(0)]


def test_an_ended_row_gives_no_codes() -> None:
    made = replace(bench(rows=1), talker=deafening())
    made.start(0, ryan(), GREEDY)
    codes = [made.frame()[0][1] for _ in range(3)]
    assert codes[1].any()
    assert not codes[2].any()


def test_no_control_code_is_ever_a_sound() -> None:
    flat = SamplerOptions(temperature=50.0, top_k=0)
    made = bench()
    for row in range(ROWS):
        made.start(row, ryan(), RowOptions(talker=flat, codes=flat, seed=row, max_frames=40))
    for _ in range(40):
        assert all(int(codes.max()) < 2048 for _, codes in made.frame())


def test_penalised_codes_are_remembered_per_row() -> None:
    made = bench()
    made.start(0, ryan(), GREEDY)
    made.start(2, ryan(TEXT[:1]), GREEDY)
    firsts: list[set[int]] = [set(), set(), set()]
    for _ in range(4):
        for row, (status, codes) in enumerate(made.frame()):
            if status:
                firsts[row].add(int(codes[0]))
    seen = [set(row.nonzero()[:, 0].tolist()) for row in made.rows.state.seen]
    assert seen == firsts
    assert seen[1] == set()


def test_a_smaller_batch_over_the_same_buffers() -> None:
    made = bench()
    made.start(0, ryan(), GREEDY)
    whole = [made.frame()[0][1].tolist() for _ in range(4)]
    made.rows.release(0)
    made.start(0, ryan(), GREEDY)
    part = made.rows.first(1)
    for codes in whole:
        frame(made.talker, part, FrameIds.of(made.config), span=24)
        assert part.codes[0].tolist() == codes


def test_a_first_frame_without_the_talker_leaves_other_rows_where_they_are() -> None:
    made = bench()
    spoken: dict[int, list[list[int]]] = {0: [], 2: []}
    made.start(0, scripts()[0].speaking, scripts()[0].options)
    for number in range(6):
        if number == 2:
            made.start(2, scripts()[2].speaking, scripts()[2].options)
        first = number in (0, 2)
        frame(made.talker, made.rows.state, FrameIds.of(made.config), 64, step=not first)
        state = made.rows.state
        assert state.status.tolist() == [number != 2, 0, number >= 2]
        for row, heard in spoken.items():
            if state.status[row]:
                heard.append(state.codes[row].tolist())
    for row, script in ((0, scripts()[0]), (2, scripts()[2])):
        codes, _ = alone(bench(rows=1), script.speaking, script.options)
        assert spoken[row] == codes.tolist()[: len(spoken[row])]
        assert len(spoken[row]) >= 4


def frames(step: Any, made: Bench) -> list[tuple[list[int], list[list[int]]]]:
    made.start(0, ryan(), DRAWN)
    made.start(1, ryan(TEXT[:3]), replace(GREEDY, max_frames=3))
    results = []
    for _ in range(5):
        step(made.talker, made.rows.state, FrameIds.of(made.config), 64)
        results.append((made.rows.state.status.tolist(), made.rows.state.codes.tolist()))
    return results


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    made = Bench.build(config(), tiny_talker(config(), dtype=dtype), rows=2, positions=32)
    made.start(0, ryan(), replace(DRAWN, max_frames=4))
    made.start(1, ryan(), replace(GREEDY, max_frames=4))
    for _ in range(4):
        for status, codes in made.frame():
            assert Status.EMITTED in status
            assert len(set(codes.tolist())) > 1


@pytest.mark.parametrize(
    ("backend", "groups"),
    [
        ("aot_eager", 3),
        pytest.param("inductor", 16, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)]),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_compiles_as_one_graph_with_the_same_codes(backend: str, groups: int) -> None:
    torch.compiler.reset()
    settings = config_of(tiny_json("custom_voice", wide=True, groups=groups))
    model = tiny_talker(settings, dtype=torch.float64).requires_grad_(False)
    model.join()
    eager = Bench.build(settings, model, rows=2, positions=64)
    compiled = Bench.build(settings, model, rows=2, positions=64)
    step = torch.compile(frame, fullgraph=True, backend=backend)
    assert frames(step, compiled) == frames(frame, eager)
    torch.compiler.reset()
