"""Captured work does what it does uncaptured, and what cannot be captured is noticed."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.neutts.torch_lm.speaking import GREEDY, NAMES, Said, advance, loaded, prompt_ids, speak
from vivavoce.engines.neutts.backbone import Prompt, TokenSampling
from vivavoce.engines.neutts.torch_rows import Buckets
from vivavoce.testing.recorded_graphs import RecordingGraphs

TinyLm = Callable[..., Path]
SAMPLINGS = (
    TokenSampling(seed=4),
    GREEDY,
    TokenSampling(seed=5, temperature=0.8, top_k=20, top_p=0.8, min_p=0.1, min_tokens=3),
    TokenSampling(seed=6, top_k=0),
    TokenSampling(seed=7, top_k=500),
)


def replayed(graphs: RecordingGraphs) -> list[Any]:
    """The keys that were used."""
    return [literal_eval(name.removeprefix("NeuTTS ")) for name in dict.fromkeys(graphs.replays)]


@pytest.mark.parametrize(
    "name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])]
)
def test_captured_is_eager(tiny_lm: TinyLm, name: str) -> None:
    folder, graphs = tiny_lm(name, end_every=5), RecordingGraphs()
    eager = loaded(folder, capacity=5)
    captured = loaded(folder, graphs, capacity=5, prefill_slice=64)
    prompts = [prompt_ids(eager.vocabulary, 12 * n + 5, first=n) for n in range(5)]
    expected = speak(eager, prompts, SAMPLINGS, 8)
    assert speak(captured, prompts, SAMPLINGS, 8) == expected
    assert {said.reason for said in expected} <= {"stop", "length"}
    assert speak(captured, prompts[:3], SAMPLINGS[:3], 8) == expected[:3]
    assert {key[0] for key in replayed(graphs)} == {"score", "draw", "prefill"}
    assert {key[1] for key in replayed(graphs) if key[0] == "score"} >= {4, 5}
    assert captured.details["graphs"] == len(graphs.captured)
    told = captured.details
    assert told["graphs_captured"] == len(graphs.captured)
    assert told["graphs_replayed"] == len(graphs.replays)
    assert told["graphs_failed"] == 0


def test_every_bucket_is_replayed(tiny_lm: TinyLm) -> None:
    """Rows and positions that grow through the buckets, one captured graph each."""
    folder, graphs = tiny_lm("neutts-air"), RecordingGraphs()
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


@pytest.mark.parametrize("refused", ["score", "draw", "prefill", ""])
def test_a_capture_that_fails_runs_as_it_is(
    tiny_lm: TinyLm, caplog: pytest.LogCaptureFixture, refused: str
) -> None:
    """The load goes on with one warning, and the codes are the same."""
    folder = tiny_lm("neutts-air", end_every=5)
    graphs = RecordingGraphs(refuses=lambda name: refused in name)
    eager, captured = loaded(folder, capacity=2), loaded(folder, graphs, capacity=2)
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert "Capture failed, running without" in caplog.text
    prompts = [prompt_ids(eager.vocabulary, 9, first=n) for n in range(2)]
    assert speak(captured, prompts, SAMPLINGS[:2], 6) == speak(eager, prompts, SAMPLINGS[:2], 6)
    told = captured.details
    assert told["graphs_failed"] > 0 and told["graphs_eager"] > 0
    assert told["graphs_captured"] == len(graphs.captured)
    assert not any(refused in name for name in graphs.replays)
    captured.unload()
    assert graphs.account.held.graphs == 0


def test_buckets() -> None:
    assert Buckets.of(16, 512, 2048) == Buckets(
        (1, 2, 4, 8, 16), (16, 64, 128, 256, 512), (512, 1024, 2048)
    )
    assert Buckets.of(3, 20, 100) == Buckets((1, 2, 3), (16, 20), (100,))
