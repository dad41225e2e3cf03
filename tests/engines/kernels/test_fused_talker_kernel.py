"""A whole frame made of kernels gives the codes of the modules."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from engines.qwen3.tiny import GREEDY, Bench, config_of, tiny_json, tiny_talker
from vivavoce.engines.capture.recording import RecordingGraphs
from vivavoce.engines.kernels.chooser import Path, chosen
from vivavoce.engines.layers import int8_cpu
from vivavoce.engines.layers.quantised import quantise_linears
from vivavoce.engines.layers.sampling import SamplerOptions
from vivavoce.engines.layers.weights import Precision
from vivavoce.engines.qwen3.frame import FrameIds, frame
from vivavoce.engines.qwen3.fused import FusedTalker, agreement, fused_talker
from vivavoce.engines.qwen3.graphs import FrameGraphs
from vivavoce.engines.qwen3.prompt import Speaking
from vivavoce.engines.qwen3.rows import RowOptions
from vivavoce.errors import InputError

CPU = torch.device("cpu")
POSITIONS = 32
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


def spoken(bench: Bench, frames: int, fused: FusedTalker | None) -> torch.Tensor:
    """Codes [frames, rows, groups]; a row begins with each of the first frames."""
    codes, state, ids = [], bench.rows.state, FrameIds.of(bench.config)
    for number in range(frames):
        if number < len(EVERY):
            speaking = Speaking([31, 7 + number, 250], "english", "ryan")
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
        pytest.param(Path.TRITON, True, 3, 3, marks=pytest.mark.slow),
        pytest.param(Path.TRITON, False, 3, 4, marks=pytest.mark.slow),
    ],
)
def test_its_codes_are_those_of_the_modules(
    path: Path, wide: bool, groups: int, frames: int
) -> None:
    """Greedy, drawn, penalised; rows that begin one after the other; projected tables or not."""
    wanted = spoken(bench_of(wide=wide, groups=groups), frames, None)
    bench = bench_of(wide=wide, groups=groups)
    fused = FusedTalker.of(bench.talker, chosen(CPU, torch.float32, path), len(EVERY))
    assert agreement(fused, bench.talker, bench.rows.state) > 0.9999
    assert torch.equal(spoken(bench, frames, fused), wanted)
    assert wanted[-1].any(-1).all()


@torch.no_grad()
def test_the_passes_are_those_of_the_modules() -> None:
    """In the interpreter; choosing is left to the tests of the sampler, and to the slow ones."""
    config = config_of(tiny_json("custom_voice", wide=True, groups=3))
    talker = tiny_talker(config).requires_grad_(False)
    bench = Bench.build(config, talker, rows=1, positions=8)
    fused = FusedTalker.of(talker, chosen(CPU, torch.float32, Path.TRITON), 1)
    assert agreement(fused, talker, bench.rows.state) > 0.9999


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
    bench.start(0, Speaking([31, 7, 250], "english", "ryan"), replace(EVERY[0], max_frames=20))
    graphs.run(3, POSITIONS, most=50)
    assert torch.equal(state.codes, wanted[0])


@torch.no_grad()
@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_quantised_weights_are_read_as_they_are(precision: Precision) -> None:
    bench = bench_of(wide=True, groups=3)
    predictor = bench.talker.code_predictor
    plain = chosen(CPU, torch.float32, Path.TORCH)
    for part in (bench.talker.model, predictor.model, predictor.lm_head):
        quantise_linears(part, precision)
    if precision is Precision.INT8 and int8_cpu.available():
        with pytest.raises(InputError, match="packed for a CPU"):
            FusedTalker.of(bench.talker, plain, len(EVERY))
        return
    fused = FusedTalker.of(bench.talker, plain, len(EVERY))
    assert agreement(fused, bench.talker, bench.rows.state) > 0.9999


@torch.no_grad()
def test_kernels_that_compute_something_else_are_not_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = bench_of(wide=True, groups=3)
    kernels = chosen(CPU, torch.float32, Path.TORCH)
    assert fused_talker(bench.talker, kernels, bench.rows.state) is None and not caplog.records
    told = replace(kernels, path=Path.TRITON)
    assert fused_talker(bench.talker, told, bench.rows.state) is not None
    wrong = replace(told, normalise=lambda x, norm: kernels.normalise(-x, norm))
    with caplog.at_level(logging.WARNING):
        assert fused_talker(bench.talker, wrong, bench.rows.state) is None
    assert "agree" in caplog.text
