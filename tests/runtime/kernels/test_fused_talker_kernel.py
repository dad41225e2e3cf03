"""A whole frame made of kernels gives the codes of the modules."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engines.qwen3.tiny import GREEDY, Bench, config_of, tiny_json, tiny_talker
from vivavoce.engines.qwen3.agreement import _each_kind, _frames, fused_talker, least
from vivavoce.engines.qwen3.agreement_of_ends import LEAST
from vivavoce.engines.qwen3.frame import FrameIds, frame
from vivavoce.engines.qwen3.frame_runner import KernelRunner
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.graphs import FrameGraphs
from vivavoce.engines.qwen3.prompt import PromptInputs
from vivavoce.engines.qwen3.rows import RowOptions
from vivavoce.errors import InputError
from vivavoce.runtime import cuda
from vivavoce.runtime.graphs.api import BATCH_BUCKETS
from vivavoce.runtime.kernels.attention import Cache
from vivavoce.runtime.kernels.dispatch import Kernels, Path, chosen
from vivavoce.runtime.nn import int8_cpu
from vivavoce.runtime.nn.linear import has_few
from vivavoce.runtime.nn.quantize import QuantizedLinear, WeightOnly, quantize_linears
from vivavoce.runtime.nn.sampling import SamplerOptions
from vivavoce.runtime.nn.weights import Precision, Weight
from vivavoce.testing.recorded_graphs import RecordingGraphs

CPU = torch.device("cpu")
POSITIONS = 32
INTERPRETED = (pytest.mark.slow, pytest.mark.timeout(600))
"""Two minutes of the interpreter, and more on a busy machine."""
EVERY = (
    GREEDY,
    RowOptions(seed=3, repetition_penalty=1.4),
    RowOptions(seed=9, codes=SamplerOptions(top_p=0.7, temperature=0.6)),
)


def bench_of(*, wide: bool, groups: int) -> Bench:
    config = config_of(tiny_json("custom_voice", wide=wide, groups=groups))
    talker = tiny_talker(config).requires_grad_(False)
    talker.join()
    return Bench.build(config, talker, rows=len(EVERY), positions=POSITIONS)


def model_of(bench: Bench) -> Any:
    """As much of a model as frames need."""
    codec, place = SimpleNamespace(init_state=lambda rows: None), SimpleNamespace(device=CPU)
    return SimpleNamespace(config=bench.config, talker=bench.talker, codec=codec, place=place)


def spoken(bench: Bench, frames: int, fused: FusedTalker | None) -> torch.Tensor:
    """Codes [frames, rows, groups]; a row begins with each of the first frames."""
    codes, state, ids = [], bench.rows.state, FrameIds.of(bench.config)
    for number in range(frames):
        if number < len(EVERY):
            speaking = PromptInputs([31, 7 + number, 250], "english", "ryan")
            bench.start(number, speaking, replace(EVERY[number], max_frames=20))
        frame(bench.talker, state, ids, POSITIONS, draw=fused)
        codes.append(state.codes.clone())
    return torch.stack(codes)


@torch.no_grad()
@pytest.mark.parametrize(
    ("path", "wide", "groups", "frames"),
    [
        (Path.TORCH, True, 16, 8),
        (Path.TORCH, False, 16, 8),
        pytest.param(Path.TRITON, True, 3, 3, marks=INTERPRETED),
        pytest.param(Path.TRITON, False, 3, 4, marks=INTERPRETED),
    ],
)
def test_its_codes_are_those_of_the_modules(
    path: Path, wide: bool, groups: int, frames: int
) -> None:
    """Greedy, drawn, penalised; rows that begin one after the other; projected tables or not."""
    wanted = spoken(bench_of(wide=wide, groups=groups), frames, None)
    bench = bench_of(wide=wide, groups=groups)
    fused = FusedTalker.of(bench.talker, chosen(CPU, torch.float32, path), len(EVERY))
    if path is Path.TORCH:  # all of it takes minutes in the interpreter
        assert least(fused, bench.talker, bench.rows.state).share * LEAST > 0.9999
    assert torch.equal(spoken(bench, frames, fused), wanted)
    assert wanted[-1].any(-1).all()


@pytest.mark.slow
@torch.no_grad()
def test_the_passes_are_those_of_the_modules() -> None:
    """In the interpreter; choosing is left to the tests of the sampler, and to the slow ones."""
    config = config_of(tiny_json("custom_voice", wide=True, groups=3))
    fewer = replace(config.talker.code_predictor, vocab_size=64)
    config = replace(config, talker=replace(config.talker, code_predictor=fewer))
    talker = tiny_talker(config).requires_grad_(False)
    bench = Bench.build(config, talker, rows=1, positions=8)
    fused = FusedTalker.of(talker, chosen(CPU, torch.float32, Path.TRITON), 1)
    found = list(_frames(fused, talker, bench.rows.state))
    assert min(each.share for each in found) * LEAST > 0.9999


@torch.no_grad()
def test_it_shares_the_weights_and_is_captured() -> None:
    """What is captured may read them and nothing else."""
    bench = bench_of(wide=True, groups=3)
    before = {tensor.data_ptr() for tensor in bench.talker.state_dict().values()}
    fused = FusedTalker.of(bench.talker, chosen(CPU, torch.float32, Path.TORCH), len(EVERY))
    layer = fused.model.layers[0]
    assert {layer.qkv.data.data_ptr(), layer.down.data.data_ptr()} <= before
    table = bench.talker.code_predictor.model.codec_embedding[1].weight
    assert fused.others[1].data_ptr() == table.data_ptr()
    state, ids = bench.rows.state, FrameIds.of(bench.config)
    graphs = FrameGraphs(RecordingGraphs(), bench.talker, state, ids, 50, fused)
    graphs.warm()
    assert graphs.captures.counts.failed == 0 < graphs.captures.counts.captured
    wanted = spoken(bench_of(wide=True, groups=3), 1, None)
    bench.start(0, PromptInputs([31, 7, 250], "english", "ryan"), replace(EVERY[0], max_frames=20))
    graphs.run(3, most=50)
    assert torch.equal(state.codes, wanted[0])


@torch.no_grad()
@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_quantized_weights_are_read_as_they_are(precision: Precision) -> None:
    bench = bench_of(wide=True, groups=3)
    predictor = bench.talker.code_predictor
    plain = chosen(CPU, torch.float32, Path.TORCH)
    for part in (bench.talker.model, predictor.model, predictor.lm_head):
        quantize_linears(part, precision)
    if precision is Precision.INT8 and int8_cpu.available():
        with pytest.raises(InputError, match="packed for a CPU"):
            FusedTalker.of(bench.talker, plain, len(EVERY))
        return
    fused = FusedTalker.of(bench.talker, plain, len(EVERY))
    assert least(fused, bench.talker, bench.rows.state).share * LEAST > 0.9999


def plain_kernels(**instead: Any) -> Kernels:
    """Plain PyTorch, said to be Triton, but for ``instead``."""
    return replace(chosen(CPU, torch.float32, Path.TORCH), path=Path.TRITON, **instead)


def many_rows() -> Bench:
    """As many as there are kinds of kernels, and pasts long enough to be read in parts."""
    config = config_of(tiny_json("custom_voice", wide=True, groups=4))
    talker = tiny_talker(config).requires_grad_(False)
    return Bench.build(config, talker, rows=64, positions=300)


Broken = Callable[[Callable[..., Any]], Callable[..., Any]]


def at_rows(count: int) -> Broken:
    """A product that is wrong for one number of rows."""
    return lambda usual: (
        lambda x, *rest, **how: usual(x, *rest, **how).roll(int(len(x) == count), -1)
    )


def reversed_past(usual: Callable[..., Any]) -> Callable[..., Any]:
    """Attention of rows in parts that has them in another order."""

    def attend(qkv: torch.Tensor, heads: Any, rope: Any, cache: Cache) -> torch.Tensor:
        values = cache.values
        if cache.scratch is not None:
            values = values.clone()
            values[:, :, 128:256] = values[:, :, 128:256].flip(2)
        return usual(qkv, heads, rope, replace(cache, values=values))

    return attend


def forgetful(usual: Callable[..., Any]) -> Callable[..., Any]:
    """Attention that stores nothing."""

    def attend(qkv: torch.Tensor, heads: Any, rope: Any, cache: Cache) -> torch.Tensor:
        own = replace(cache, keys=cache.keys.clone(), values=cache.values.clone())
        return usual(qkv, heads, rope, own)

    return attend


def without_penalty(usual: Callable[..., Any]) -> Callable[..., Any]:
    def sample(
        scores: Any, sampler: Any, noise: Any, group: int, rules: Any = None, *rest: Any
    ) -> Any:
        if rules is not None:
            rules = replace(rules, penalty=torch.ones_like(rules.penalty))
        return usual(scores, sampler, noise, group, rules, *rest)

    return sample


def next_row(usual: Callable[..., Any]) -> Callable[..., Any]:
    """A sampler that embeds another code than it chooses."""

    def sample(*given: Any) -> Any:
        code, embedded = usual(*given)
        return code, None if embedded is None else embedded.copy_(embedded.roll(1, 0))

    return sample


def without_pad(usual: Callable[..., Any]) -> Callable[..., Any]:
    """Rows that have no text are given another token."""
    return lambda rows, table, pad: usual(rows, table, pad + 1)


def without(**names: bool) -> Broken:
    """Something of a row's state is left as it is."""

    def broken(usual: Callable[..., Any]) -> Callable[..., Any]:
        def call(rows: Any, *given: Any) -> Any:
            own = {name: getattr(rows, name).clone() for name in names}
            return usual(replace(rows, **own), *given)

        return call

    return broken


def next_pair(usual: Callable[..., Any]) -> Callable[..., Any]:
    """What the predictor begins with is another row's."""

    def settle(rows: Any, stepped: Any, norm: Any, pair: torch.Tensor) -> Any:
        turn = usual(rows, stepped, norm, pair)
        pair.copy_(pair.roll(1, 0))
        return turn

    return settle


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "broken", "told"),
    [
        ("linear", at_rows(1), "1 rows"),
        ("linear", at_rows(2), ""),
        ("linear", at_rows(24), "24 rows"),
        ("gated", at_rows(64), ""),
        ("attend", reversed_past, "rows over"),
        ("attend", forgetful, "stores"),
        ("sample", without_penalty, "code 0"),
        ("sample", next_row, "is chosen alike"),
        ("next_text", without_pad, "the text"),
        ("settle", without(primed=True), "primed"),
        ("settle", without(cursor=True), "cursor"),
        ("settle", next_pair, "the pair"),
        ("finish", without(seen=True), "seen"),
        ("finish", without(status=True), "status"),
        ("finish", without(pending=True), "pending"),
        ("normalize", lambda usual: lambda x, norm: usual(-x, norm), ""),
    ],
)
def test_kernels_that_compute_something_else_are_not_used(
    name: str, broken: Broken, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """However rare the case: one number of rows, long pasts only, one option of the sampler."""
    bench = many_rows()
    kernels = plain_kernels()
    wrong = replace(kernels, **{name: broken(getattr(kernels, name))})
    with caplog.at_level(logging.WARNING):
        assert fused_talker(bench.talker, wrong, bench.rows.state) is None
    assert "do not agree" in caplog.text and told in caplog.text


@torch.no_grad()
def test_kernels_that_agree_are_used_and_leave_nothing_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = many_rows()
    state = bench.rows.state
    kernels = chosen(CPU, torch.float32, Path.TORCH)
    assert fused_talker(bench.talker, kernels, state) is None and not caplog.records
    assert fused_talker(bench.talker, plain_kernels(), state) is not None and not caplog.records
    for kv in (state.kv, state.predictor.kv):
        assert not kv.keys.any() and not kv.values.any()
    assert state.positions.eq(299).all() and not state.hidden.any()


@pytest.mark.parametrize("error", [RuntimeError, OSError, subprocess.SubprocessError, TypeError])
def test_kernels_that_can_not_be_made_are_not_used(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: Any) -> Any:
        raise error("no compiler")

    bench = bench_of(wide=False, groups=3)
    with caplog.at_level(logging.WARNING):
        assert fused_talker(bench.talker, plain_kernels(gated=refused), bench.rows.state) is None
    assert "no compiler" in caplog.text and "QUANTIZE" not in caplog.text


@pytest.mark.parametrize("fails", [1, 2])
def test_kernels_for_which_memory_is_short_are_tried_once_more(
    fails: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While they are asked, and while every size is made once without captures."""
    emptied: list[torch.device] = []
    monkeypatch.setattr(cuda, "empty_cache", emptied.append)
    bench, usual = bench_of(wide=False, groups=3), plain_kernels()
    left = [torch.OutOfMemoryError("CUDA out of memory.")] * fails

    def scarce(*args: Any, **how: Any) -> Any:
        if left:
            raise left.pop()
        return usual.gated(*args, **how)

    state, kernels = bench.rows.state, plain_kernels(gated=scarce)
    with caplog.at_level(logging.WARNING):
        fused = fused_talker(bench.talker, kernels, state)
        assert (fused is None) == (fails == 2) and len(emptied) == fails
        assert ("No kernels for frames" in caplog.text) == (fails == 2)
        caplog.clear()
        fused = fused or fused_talker(bench.talker, kernels, state)
        assert fused is not None
        left += [torch.OutOfMemoryError("CUDA out of memory.")] * fails
        assert (KernelRunner.warmed(model_of(bench), bench.rows, fused) is None) == (fails == 2)
    assert ("No kernels for frames" in caplog.text) == (fails == 2) and len(emptied) == 2 * fails


def test_quantized_weights_without_kernels_are_said_to_be_slow(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_cpu, "available", lambda: False)
    bench = bench_of(wide=False, groups=3)
    quantize_linears(bench.talker.model, Precision.INT8)

    def refused(*_: Any) -> Any:
        raise RuntimeError("no compiler")

    with caplog.at_level(logging.WARNING):
        assert fused_talker(bench.talker, plain_kernels(gated=refused), bench.rows.state) is None
    assert "no compiler. Without them quantized weights are slower" in caplog.text


@torch.no_grad()
@pytest.mark.parametrize("fault", ["wrong", "raises", ""])
def test_products_that_are_wrong_go_back_to_pytorch(
    fault: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The modules' own, which would else be all that frames have left, and what they are asked."""
    monkeypatch.setattr(int8_cpu, "available", lambda: False)

    def few(x: torch.Tensor, weight: Weight) -> torch.Tensor:
        if fault == "raises":
            raise RuntimeError("no compiler")
        return WeightOnly(weight)(x) * (-1 if fault and len(x) == 4 else 1)

    bench = bench_of(wide=True, groups=3)
    predictor = bench.talker.code_predictor
    for part in (bench.talker.model, predictor.model, predictor.lm_head):
        quantize_linears(part, Precision.INT8, few)
    for each in bench.talker.modules():
        if isinstance(each, QuantizedLinear):
            each.prepare()
    with caplog.at_level(logging.WARNING):
        fused = fused_talker(bench.talker, plain_kernels(), bench.rows.state)
    assert fused is not None
    assert has_few(bench.talker) == (not fault)
    assert [each.message for each in caplog.records if "No kernels for products" in each.message][
        :1
    ] == caplog.messages
    assert bool(caplog.messages) == bool(fault)


def test_every_kind_of_kernel_is_asked_for_once() -> None:
    kinds = _each_kind(BATCH_BUCKETS)
    assert kinds == [1, 2, 4, 8, 12, 24, 64]
