"""Frames in one launch are used where they store what many launches do, and only there."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from engines.qwen3.tiny import Bench, config_of, tiny_json, tiny_talker
from vivavoce.engines.capture.recording import RecordingGraphs
from vivavoce.engines.kernels.chooser import Path, chosen
from vivavoce.engines.kernels.decoder import AT_ONCE, Steps
from vivavoce.engines.qwen3 import one_launch
from vivavoce.engines.qwen3.frame import FrameIds
from vivavoce.engines.qwen3.fused import FusedTalker
from vivavoce.engines.qwen3.graphs import FrameGraphs
from vivavoce.engines.qwen3.one_launch import in_one_launch
from vivavoce.engines.qwen3.options import Qwen3Options, refuse_unsupported
from vivavoce.errors import SettingsError

ROWS = AT_ONCE + 2


@dataclass(frozen=True)
class Launch:
    """Stands for the kernel: asks the launches one by one. ``fault``: what is wrong with it."""

    fused: FusedTalker
    state: Any
    barrier: torch.Tensor
    fault: str = ""

    def run(self, tokens: torch.Tensor, first: torch.Tensor, steps: Steps) -> torch.Tensor:
        if self.fault == "raises":
            raise RuntimeError("too many programs for one launch")
        assert len(first) <= AT_ONCE
        self.barrier.add_(1)
        rows = replace(self.state.rows(0, len(first)), hidden=tokens[0], seeds=steps.noise.seeds)
        codes = self.fused._one_by_one(rows, first, tokens[1])
        if self.fault == "wrong":
            steps.kv.values[-1, :, :, 1].neg_()
        return codes


@pytest.fixture
def bench() -> Bench:
    config = config_of(tiny_json("custom_voice", wide=False, groups=3))
    return Bench.build(config, tiny_talker(config).requires_grad_(False), rows=ROWS, positions=16)


def plain(bench: Bench) -> FusedTalker:
    kernels = chosen(torch.device("cpu"), torch.float32, Path.TORCH)
    return FusedTalker.of(bench.talker, kernels, ROWS)


def asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fault: str = ""
) -> tuple[FusedTalker, FusedTalker]:
    """Before it was tried and after."""
    fused, state = plain(bench), bench.rows.state
    launch: Any = Launch(fused, state, torch.zeros(2, dtype=torch.int32), fault)
    monkeypatch.setattr(one_launch, "with_whole", lambda fused: replace(fused, whole=launch))
    return fused, in_one_launch(fused, state)


@torch.no_grad()
def test_it_is_used_where_it_agrees_and_leaves_nothing_behind(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, whole = asked(bench, monkeypatch)
    assert whole.whole is not None and not caplog.records
    kv = bench.rows.state.predictor.kv
    assert not kv.keys.any() and not kv.values.any()


@torch.no_grad()
@pytest.mark.parametrize(
    ("fault", "told"), [("wrong", "a cosine of -1.0"), ("raises", "too many programs")]
)
def test_many_launches_stay_where_it_fails(
    bench: Bench,
    fault: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        before, after = asked(bench, monkeypatch, fault)
    assert after is before
    assert "No frames in one launch" in caplog.text and told in caplog.text


@torch.no_grad()
def test_more_rows_take_many_launches(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    fused, whole = asked(bench, monkeypatch)
    assert whole.whole is not None
    state = bench.rows.state
    for count in (1, AT_ONCE, AT_ONCE + 1):
        view, first = state.rows(0, count), torch.arange(count)
        before = int(whole.whole.barrier[0])
        codes = [each.rest(view, first, each.first_table[first])[0] for each in (fused, whole)]
        assert torch.equal(*codes)
        assert int(whole.whole.barrier[0]) - before == (count <= AT_ONCE)


@torch.no_grad()
def test_captured_frames_may_write_its_barrier(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = asked(bench, monkeypatch)
    graphs = FrameGraphs(
        RecordingGraphs(), bench.talker, bench.rows.state, FrameIds.of(bench.config), 50, whole
    )
    graphs.warm()
    assert graphs.captures.counts.failed == 0 < graphs.captures.counts.captured


def test_a_cpu_has_none() -> None:
    with pytest.raises(SettingsError, match="one_launch needs"):
        refuse_unsupported(Qwen3Options(device="cpu", one_launch=True))
