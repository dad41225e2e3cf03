"""What ``doctor`` and ``/metrics`` say of this engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prometheus_client import generate_latest

from vivavoce.cli.doctor import engine_findings
from vivavoce.engines.qwen3.engine import Qwen3Engine
from vivavoce.engines.qwen3.graphs import Capturing
from vivavoce.engines.qwen3.options import Qwen3Options
from vivavoce.runtime.graphs.api import LENGTH_BUCKETS
from vivavoce.serving.metrics import PrometheusObserver
from vivavoce.settings import Settings
from vivavoce.testing.recorded_graphs import RecordingGraphs

Checkpoints = Callable[[str], Path]


def test_doctor_names_what_computes_attention(tiny_checkpoint: Checkpoints) -> None:
    options = {
        "model": str(tiny_checkpoint("0.6B-CustomVoice")),
        "device": "cpu",
        "positions": 512,
        "guards": False,
    }
    used = engine_findings(Settings(engine="qwen3", qwen3=options))[0]
    assert "attention of prompts: flash_attention; frames: flash_attention" in used.summary
    assert used.facts["details"]["attention"]


def test_captures_that_failed_are_counted(tiny_checkpoint: Checkpoints) -> None:
    graphs = RecordingGraphs(refuses=lambda name: name.startswith("prefill"))
    folder = tiny_checkpoint("0.6B-CustomVoice")
    options = Qwen3Options(model=folder, device="cpu", positions=128, capacity=2)
    engine, observer = Qwen3Engine(options, Capturing(graphs)), PrometheusObserver()
    engine.load()
    observer.describe(engine.info)
    told = generate_latest(observer.registry).decode()
    lines = [line.split() for line in told.splitlines() if line.startswith("tts_engine_graphs{")]
    counts = {name.split('"')[1]: float(value) for name, value in lines}
    assert counts["failed"] == len(LENGTH_BUCKETS) and counts["captured"] > 5
    assert counts["replayed"] == counts["eager"] == 0
    engine.unload()
