"""Captured = eager = the plain engine's codes and sound, checked on the recording stand-in."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from weakref import ref

import numpy as np
import pytest
import torch

from engines.qwen3.tiny import GREEDY, Bench, alone, config_of, tiny_json, tiny_talker
from vivavoce.engines.qwen3.codec.decoder import CodecDecoder, load_decoder
from vivavoce.engines.qwen3.codec_windows import CodecWindows
from vivavoce.engines.qwen3.config import Qwen3Config
from vivavoce.engines.qwen3.frame import FrameIds
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.graphs import FrameGraphs, PrefillGraphs
from vivavoce.engines.qwen3.prefill import pieces_of
from vivavoce.engines.qwen3.prompt import Layout, PromptInputs, embed, plan
from vivavoce.engines.qwen3.rows import RowOptions
from vivavoce.engines.qwen3.talker import Talker
from vivavoce.runtime.graphs import compiled
from vivavoce.runtime.graphs.api import BATCH_BUCKETS, CaptureFailed, Held
from vivavoce.runtime.kernels.dispatch import chosen
from vivavoce.runtime.kernels.frame_ends import Status
from vivavoce.runtime.nn.sampling import SamplerOptions
from vivavoce.testing.recorded_graphs import RecordingGraphs

GROUPS, POSITIONS = 3, 64
SHORTLIST = 50
SHARP = SamplerOptions(temperature=0.7, top_k=30, top_p=0.8)
OVER = Status.ENDED | Status.LIMIT | Status.FAILED
TEXTS = ([31, 7, 250], [5], [611, 48, 93, 870, 12, 13])


@cache
def config() -> Qwen3Config:
    return config_of(tiny_json("custom_voice", wide=True, groups=GROUPS))


@cache
def talker() -> Talker:
    return tiny_talker(config()).requires_grad_(False)


@cache
def scripts() -> tuple[tuple[PromptInputs, RowOptions], ...]:
    options = (GREEDY, RowOptions(seed=3), RowOptions(seed=9, repetition_penalty=1.3))
    return tuple(
        (PromptInputs(text, "english", "ryan"), replace(each, max_frames=4 + 2 * number))
        for number, (text, each) in enumerate(zip(TEXTS, options, strict=True))
    )


@cache
def expected(number: int) -> list[list[int]]:
    """Codes of the plain engine, by itself."""
    bench = Bench.build(config(), talker(), rows=1, positions=POSITIONS)
    codes: list[list[int]] = alone(bench, *scripts()[number])[0].tolist()
    return codes


@dataclass
class Captured:
    """Rows driven through captures only."""

    bench: Bench
    api: RecordingGraphs
    frames: FrameGraphs
    prompts: PrefillGraphs

    @classmethod
    def build(cls, rows: int, positions: int = POSITIONS) -> Captured:
        bench, api = (
            Bench.build(config(), talker(), rows=rows, positions=positions),
            RecordingGraphs(),
        )
        state = bench.rows.state
        frames = FrameGraphs(api, talker(), state, FrameIds.of(config()), SHORTLIST)
        prompts = PrefillGraphs(api, talker(), state, frames.captures.pool)
        frames.warm()
        prompts.warm()
        return cls(bench, api, frames, prompts)

    def start(self, row: int, speaking: PromptInputs, options: RowOptions) -> None:
        laid = plan(config(), speaking)
        hidden = None
        for start, stop in pieces_of(0, len(laid.rows)):
            piece = embed(talker(), laid.rows[start:stop], speaking)
            hidden = self.prompts.run(row, piece, start)
        assert hidden is not None
        self.bench.rows.admit(row, hidden, len(laid.rows), laid.trailing, options)

    def frame(
        self, width: int, *, step: bool = True, most: int = SHORTLIST
    ) -> list[tuple[Status, list[int]]]:
        state = self.bench.rows.state
        self.frames.run(width, step=step, most=most)
        told = zip(state.status[:width].tolist(), state.codes[:width].tolist(), strict=True)
        return [(Status(status), codes) for status, codes in told]


@pytest.fixture(scope="module")
def many() -> Captured:
    return Captured.build(max(BATCH_BUCKETS))


def test_every_bucket_is_captured_and_none_failed(many: Captured) -> None:
    keys = set(many.frames.captures.keys)
    usual = {(rows, SHORTLIST, True) for rows in BATCH_BUCKETS}
    assert keys == usual | {(1, SHORTLIST, False), (64, 0, True)}
    assert set(many.prompts.captures.keys) == {16, 32, 64}
    assert many.frames.captures.counts.failed == many.prompts.captures.counts.failed == 0
    assert many.api.captured[0] == f"frame {many.frames.key(64, most=SHORTLIST)}"


@pytest.mark.parametrize("most", BATCH_BUCKETS)
def test_rows_that_join_and_leave_speak_as_the_plain_engine(many: Captured, most: int) -> None:
    """Up to ``most`` rows, so that every bucket up to it is used as they come and go."""
    rng = random.Random(most)
    replayed, eager = many.frames.captures.counts.replayed, many.frames.captures.counts.eager
    live: dict[int, tuple[int, int, list[list[int]]]] = {}
    joined, widest = 0, 0
    while live or joined < most + 3:
        for _ in range(rng.choice((0, 1, most))):
            free = min(set(range(most)) - set(live), default=None)
            if free is not None and joined < 2 * most + 3:
                number = rng.randrange(len(scripts()))
                many.start(free, *scripts()[number])
                live[free] = (number, rng.randint(1, 12), [])
                joined += 1
        if not live:
            continue
        width = max(live) + 1
        widest = max(widest, width)
        for row, (status, codes) in enumerate(many.frame(width)):
            if row not in live:
                continue
            number, stay, heard = live[row]
            if Status.EMITTED in status:
                heard.append(codes)
            if status & OVER or len(heard) >= stay:
                whole = expected(number)
                assert heard == (whole if status & OVER else whole[: len(heard)])
                many.bench.rows.release(row)
                del live[row]
    assert widest == most
    counts = many.frames.captures.counts
    assert counts.replayed > replayed and counts.eager == eager


def test_a_first_frame_needs_no_talker_step(many: Captured) -> None:
    speaking, options = scripts()[2]
    many.start(0, speaking, options)
    heard = [many.frame(1, step=False)[0][1], many.frame(1)[0][1]]
    assert heard == expected(2)[:2]
    assert many.api.replays[-2] == "frame FrameKey(rows=1, most=50, step=False)"
    many.bench.rows.release(0)


def test_a_row_that_needs_sorting_takes_everybody_along(many: Captured) -> None:
    speaking, options = scripts()[1]
    sharp = replace(options, talker=SHARP, codes=SHARP)
    plain = Bench.build(config(), talker(), rows=1, positions=POSITIONS)
    wanted = alone(plain, speaking, sharp)[0].tolist()
    many.start(1, speaking, sharp)
    heard = [many.frame(2, most=0)[1][1] for _ in wanted]
    assert heard == wanted
    assert many.api.replays[-1] == f"frame {many.frames.key(2)}"
    assert many.frames.key(2).rows == 64
    many.bench.rows.release(1)


def test_rows_that_begin_together_take_the_step_along(many: Captured) -> None:
    """Without it there is only the frame of one row."""
    many.start(0, *scripts()[2])
    many.start(1, *scripts()[1])
    heard = [[codes for _, codes in many.frame(2, step=step)] for step in (False, True)]
    assert heard == [[expected(2)[at], expected(1)[at]] for at in range(2)]
    assert many.api.replays[-2] == many.api.replays[-1] == f"frame {many.frames.key(2, most=50)}"
    many.bench.rows.release(0)
    many.bench.rows.release(1)


def test_a_long_row_is_read_to_its_end() -> None:
    captured = Captured.build(2, positions=300)
    speaking = PromptInputs([20], "english", "ryan", layout=Layout.WHOLE)
    around = len(plan(config(), speaking).rows) - 1
    speaking = replace(speaking, text_ids=list(range(20, 20 + 252 - around)))
    plain = Bench.build(config(), talker(), rows=1, positions=300)
    options = replace(GREEDY, max_frames=10)
    wanted = alone(plain, speaking, options)[0].tolist()
    captured.start(1, speaking, options)
    heard = [captured.frame(2)[1][1] for _ in wanted]
    assert heard == wanted
    assert captured.frames.captures.counts.eager == 0


def test_a_prompt_goes_into_any_row_behind_what_is_there(many: Captured) -> None:
    speaking = scripts()[2][0]
    laid = plan(config(), speaking)
    prompt = embed(talker(), laid.rows, speaking)
    whole = many.bench.rows.prefill(talker(), 5, prompt)
    found = many.prompts.run(9, prompt)
    assert found is not None and torch.allclose(found, whole, atol=1e-5)
    kept = many.bench.rows.keep_prefix(5, laid.prefix)
    start = many.bench.rows.restore_prefix(7, kept)
    behind = many.prompts.run(7, prompt[start:], start)
    assert behind is not None and torch.allclose(behind, whole, atol=1e-5)
    keys = many.bench.rows.state.kv.keys
    assert torch.allclose(keys[:, 7, :, : len(prompt)], keys[:, 5, :, : len(prompt)], atol=1e-5)


@pytest.mark.parametrize("start", [0, 9, 250])
def test_a_prompt_behind_a_long_beginning_is_captured_too(start: int) -> None:
    """A cloned voice's own words and sound may take most of a row."""
    bench = Bench.build(config(), talker(), rows=1, positions=400)
    prompts = PrefillGraphs(RecordingGraphs(), talker(), bench.rows.state)
    prompts.warm()
    for length in (1, 9, 40):
        bucket = prompts.bucket(length, start)
        assert bucket is not None and prompts.captures.holds(bucket)


def test_a_prompt_whose_padding_has_no_room_is_left_to_others() -> None:
    """At the end of a row: padding must not be written over what stands before it."""
    bench = Bench.build(config(), talker(), rows=1, positions=POSITIONS)
    prompts = PrefillGraphs(RecordingGraphs(), talker(), bench.rows.state)
    assert [prompts.bucket(3, start) for start in (48, 49)] == [16, None]
    assert prompts.run(0, torch.zeros(3, 48), 49) is None


def test_a_prompt_longer_than_any_bucket_is_left_to_others(many: Captured) -> None:
    assert many.prompts.run(0, torch.zeros(65, 48)) is None


def test_kernels_need_no_sorting_and_take_nobody_along() -> None:
    own = tiny_talker(config()).requires_grad_(False)  # kernels lay its tables out anew
    bench = Bench.build(config(), own, rows=4, positions=POSITIONS)
    fused = FusedTalker.of(own, chosen(torch.device("cpu"), torch.float32), 4)
    ids, api = FrameIds.of(config()), RecordingGraphs()
    frames = FrameGraphs(api, own, bench.rows.state, ids, SHORTLIST, fused)
    frames.warm()
    assert {key.most for key in frames.captures.keys} == {SHORTLIST}
    speaking, options = scripts()[1]
    sharp = replace(options, talker=SHARP, codes=SHARP)
    plain = Bench.build(config(), talker(), rows=1, positions=POSITIONS)
    wanted = alone(plain, speaking, sharp)[0].tolist()
    bench.start(0, speaking, sharp)
    for codes in wanted:
        assert frames.key(1, most=0).rows == 1
        frames.run(1, most=0)
        assert bench.rows.state.codes[0].tolist() == codes
    assert frames.captures.counts.eager == 0


@pytest.mark.parametrize("late", [False, True])
def test_what_fails_with_kernels_is_captured_without(late: bool) -> None:
    """They are asked for each kind of size; one that fails all the same must fail no call.

    ``late``: it fails not before it is captured.
    """
    own = tiny_talker(config()).requires_grad_(False)  # kernels lay its tables out anew
    bench = Bench.build(config(), own, rows=2, positions=POSITIONS)
    plain = chosen(torch.device("cpu"), torch.float32)

    def few(x: torch.Tensor, *rest: object, **how: object) -> torch.Tensor:
        recorded = torch.utils._python_dispatch._get_current_dispatch_mode() is not None
        if len(x) == 4 and (recorded or not late):
            raise CaptureFailed("no such kernel")
        made: torch.Tensor = plain.linear(x, *rest, **how)
        return made

    fused = FusedTalker.of(own, replace(plain, linear=few), 2)
    ids, api = FrameIds.of(config()), RecordingGraphs()
    frames = FrameGraphs(api, own, bench.rows.state, ids, SHORTLIST, fused)
    frames.warm()
    assert {key.rows for key in frames.captures.keys} == {1, 2}
    assert frames.captures.counts.failed > 0
    prompts = PrefillGraphs(api, own, bench.rows.state, frames.captures.pool)
    prompts.warm()
    assert prompts.captures.keys and prompts.captures.counts.failed == 0
    bench.start(0, *scripts()[1])
    bench.start(1, *scripts()[2])
    frames.run(2, most=SHORTLIST)
    codes = bench.rows.state.codes.tolist()
    assert codes == [expected(1)[0], expected(2)[0]]
    assert frames.key(2, most=0).most == 0 != frames.key(1, most=0).most
    frames.run(2, most=0)
    assert bench.rows.state.codes.tolist() == [expected(1)[1], expected(2)[1]]
    assert frames.captures.counts.eager == 0


def test_what_cannot_be_captured_speaks_the_same() -> None:
    bench = Bench.build(config(), talker(), rows=1, positions=POSITIONS)
    api = RecordingGraphs(refuses=lambda name: True)
    frames = FrameGraphs(api, talker(), bench.rows.state, FrameIds.of(config()), SHORTLIST)
    frames.warm()
    bench.start(0, *scripts()[1])
    heard = []
    for _ in expected(1):
        frames.run(1, most=SHORTLIST)
        heard.append(bench.rows.state.codes[0].tolist())
    assert heard == expected(1)
    assert frames.captures.counts.eager == len(heard)
    assert api.account.held == Held()


@pytest.fixture(scope="module")
def decoder(tiny_checkpoint: Callable[[str], Path]) -> CodecDecoder:
    from vivavoce.engines.qwen3.checkpoint import open_checkpoint

    return load_decoder(open_checkpoint(tiny_checkpoint("0.6B-CustomVoice")))


def some_codes(rows: int, frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2048, (rows, frames, 16))


@pytest.mark.parametrize("eager", [False, True])
def test_windows_sound_as_the_whole(decoder: CodecDecoder, eager: bool) -> None:
    """Any rows together, in chunks of the ramp, read long after they were sent."""
    api = RecordingGraphs(eager=eager)
    windows = CodecWindows(api, decoder, 3)
    windows.warm()
    codes = some_codes(3, 10, 0)
    for row in range(3):
        windows.begin(row)
    sent: list[tuple[Sequence[int], object]] = []
    for rows, start, stop in (([1], 0, 1), ([0, 2], 0, 1), ([2, 0], 1, 3), ([0, 1, 2], 3, 7)):
        if rows == [0, 1, 2]:
            sent.append(([1], windows.decode([1], codes[[1], 1:3])))
        sent.append((rows, windows.decode(rows, codes[rows, start:stop])))
    sent.append(([0, 2], windows.decode([0, 2], codes[[0, 2], 7:10], last=True)))
    heard: dict[int, list[np.ndarray]] = {0: [], 1: [], 2: []}
    for rows, sounding in sent:
        for row, samples in zip(rows, sounding.take(), strict=True):
            heard[row].append(samples)
    with torch.no_grad():
        whole = decoder.decode(torch.from_numpy(codes), decoder.init_state(3)).numpy()
    for row, parts in heard.items():
        said = np.concatenate(parts)
        np.testing.assert_allclose(said, whole[row, : len(said)], atol=1e-4)
    assert windows.captures.counts.eager == 0
    assert windows.in_use == 0
    windows.close()
    assert api.account.held == Held()


@torch.no_grad()
def test_the_decoder_compiles_as_a_whole(decoder: CodecDecoder) -> None:
    """Else a failure half-way could leave half of a state moved on."""
    codes = torch.from_numpy(some_codes(2, 1, 2))
    state, other = decoder.init_state(2), decoder.init_state(2)
    whole = torch.compile(decoder.decode, backend="eager", fullgraph=True, dynamic=False)
    assert torch.equal(whole(codes, state), decoder.decode(codes, other))
    assert torch.equal(state.positions, other.positions)


def test_a_size_that_does_not_compile_speaks_and_is_counted(
    decoder: CodecDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_(plain: Callable[..., torch.Tensor], **_: object) -> Callable[..., torch.Tensor]:
        def call(codes: torch.Tensor, state: object) -> torch.Tensor:
            if codes.shape[1] == 2:
                raise RuntimeError("too large")
            return plain(codes, state)

        return call

    monkeypatch.setattr(compiled.torch, "compile", compile_)
    windows = CodecWindows(RecordingGraphs(), decoder, 1, "default")
    windows.warm()
    assert windows.uncompiled == 1 and windows.captures.counts.failed == 0
    codes = some_codes(1, 3, 3)
    windows.begin(0)
    parts = [windows.decode([0], codes[:, at]).take()[0] for at in (slice(1), slice(1, 3))]
    with torch.no_grad():
        whole = decoder.decode(torch.from_numpy(codes), decoder.init_state(1)).numpy()[0]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=3e-4)
    windows.close()


def test_states_to_begin_from_are_let_go_once_they_were_copied(decoder: CodecDecoder) -> None:
    """Each takes megabytes: a hundred voices must not stay on a device for having begun."""
    windows = CodecWindows(RecordingGraphs(eager=True), decoder, 1)
    held = []
    for _ in range(5):
        primed = decoder.init_state(1)
        windows.begin(0, primed)
        held.append(ref(primed.positions))
        del primed
    assert [each() is not None for each in held] == [False] * 4 + [True]
    windows.close()
    assert held[-1]() is None


def test_a_window_begins_where_a_voice_left_off(decoder: CodecDecoder) -> None:
    codes = some_codes(1, 6, 1)
    primed = decoder.prime(torch.from_numpy(codes[0, :4]))
    windows = CodecWindows(RecordingGraphs(), decoder, 2)
    windows.warm()
    windows.begin(1, primed)
    (sound,) = windows.decode([1], codes[:, 4:6]).take()
    with torch.no_grad():
        whole = decoder.decode(torch.from_numpy(codes), decoder.init_state(1)).numpy()
    np.testing.assert_allclose(sound, whole[0, -len(sound) :], atol=3e-4)
    windows.close()
