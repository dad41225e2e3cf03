"""Captured work does what it does uncaptured, and what cannot be captured is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engines.neutts.torch_lm.speaking import GREEDY, NAMES, Said, advance, loaded, prompt_ids, speak
from vivavoce.engines.neutts.backbone import Prompt, TokenSampling
from vivavoce.engines.neutts.torch_lm.runner import Buckets
from vivavoce.errors import EngineError
from vivavoce.testing.recorded_lm_graphs import RecordedGraphs

TinyLm = Callable[..., Path]
SAMPLINGS = (
    TokenSampling(seed=4),
    GREEDY,
    TokenSampling(seed=5, temperature=0.8, top_k=20, top_p=0.8, min_p=0.1, min_tokens=3),
    TokenSampling(seed=6, top_k=0),
    TokenSampling(seed=7, top_k=500),
)


def replayed(graphs: RecordedGraphs) -> list[Any]:
    """The keys that were used."""
    return [key for key, count in graphs.replays.items() if count]


@pytest.mark.parametrize(
    "name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])]
)
def test_captured_is_eager(tiny_lm: TinyLm, name: str) -> None:
    folder, graphs = tiny_lm(name, end_every=5), RecordedGraphs()
    eager = loaded(folder, capacity=5)
    captured = loaded(folder, graphs, capacity=5, prefill_slice=64)
    prompts = [prompt_ids(eager.vocabulary, 12 * n + 5, first=n) for n in range(5)]
    expected = speak(eager, prompts, SAMPLINGS, 8)
    assert speak(captured, prompts, SAMPLINGS, 8) == expected
    assert {said.reason for said in expected} <= {"stop", "length"}
    assert speak(captured, prompts[:3], SAMPLINGS[:3], 8) == expected[:3]
    assert {key[0] for key in replayed(graphs)} == {"score", "draw", "prefill"}
    assert {key[1] for key in replayed(graphs) if key[0] == "score"} >= {4, 5}
    assert captured.details["graphs"] == len(graphs.replays)


def test_every_bucket_is_replayed(tiny_lm: TinyLm) -> None:
    """Rows and positions that grow through the buckets, one captured graph each."""
    folder, graphs = tiny_lm("neutts-air"), RecordedGraphs()
    eager, captured = loaded(folder), loaded(folder, graphs)
    ids = prompt_ids(eager.vocabulary, 30)
    samplings = [TokenSampling(seed=n) for n in range(4)]
    said = []
    for backbone in (eager, captured):
        rows: dict[int, Said] = {}
        for sampling in samplings:
            rows[backbone.admit(Prompt(ids), sampling, 60)] = Said()
            advance(backbone, rows, 4)
        advance(backbone, rows, 20)
        said.append(rows)
    assert said[0] == said[1]
    scored = [key for key in replayed(graphs) if key[0] == "score"]
    assert {rows for _, rows, _ in scored} == {1, 2, 4}
    assert {span for _, _, span in scored} == {128, 256}


def test_a_recording_is_replayed_not_called() -> None:
    """Numbers of the host stay what they were: the stand-in shows what a graph would do."""
    graphs, buffer, host = RecordedGraphs(), torch.zeros(3), {"number": 1.0}

    def work() -> None:
        buffer.add_(host["number"])

    graphs.capture("key", work)
    host["number"] = 100.0
    graphs.run("key", work)
    assert buffer.tolist() == [2.0] * 3
    graphs.run("other", work)
    assert buffer.tolist() == [102.0] * 3
    graphs.clear()
    graphs.run("key", work)
    assert buffer.tolist() == [202.0] * 3


def summed(x: torch.Tensor) -> object:
    return x.sum().item()


def picked(x: torch.Tensor) -> object:
    return x[x > 0]


@pytest.mark.parametrize("wait", [summed, picked, torch.nonzero])
def test_work_that_waits_for_the_host_is_refused(wait: Callable[[torch.Tensor], object]) -> None:
    buffer = torch.ones(3)

    def work() -> None:
        wait(buffer)

    with pytest.raises(EngineError):
        RecordedGraphs().capture("key", work)


def test_buckets() -> None:
    assert Buckets.of(16, 512, 2048) == Buckets(
        (1, 2, 4, 8, 16), (16, 64, 128, 256, 512), (512, 1024, 2048)
    )
    assert Buckets.of(3, 20, 100) == Buckets((1, 2, 3), (16, 20), (100,))
