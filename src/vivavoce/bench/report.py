"""Results on disk (JSON) and side by side."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vivavoce.bench.clients import Target
from vivavoce.bench.device import provenance
from vivavoce.bench.measures import Listening, Measure
from vivavoce.bench.runner import ClosedLoop, OpenLoop
from vivavoce.bench.summary import Summary
from vivavoce.errors import SettingsError

SCHEMA = 1
"""Raised when a field of the JSON changes its meaning."""

QUANTILES = ("p50", "p95", "p99", "max")
LATENCIES = (
    "first_byte_ms",
    "audible_ms",
    "first_playable_ms",
    "total_ms",
    "chunk_gap_ms",
    "rtf",
    "schedule_lag_ms",
    "loop_lag_ms",
)
PARTS = ("queue_ms", "inference_ms", "network_ms")
_TOTALS = ("ok_share", "audio_s_per_s", "requests_per_s", "max_calls")
# Figures from runs that differ in one of these say nothing about each other.
_MUST_MATCH = ("device.cpu", "device.usable_cores", "device.gpus", "target.transport", "load")
_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class Setup:
    """What was asked of whom, and how it was listened to."""

    target: Target
    load: ClosedLoop | OpenLoop
    listening: Listening


@dataclass(frozen=True, slots=True)
class Search:
    """How many calls at once were clean, and each number that was tried, in order."""

    max_calls: int
    levels: tuple[tuple[int, bool], ...] = ()


def bench_report(
    setup: Setup,
    summary: Summary,
    *,
    search: Search | None = None,
    each: list[Measure] | None = None,
) -> dict[str, Any]:
    """One run as it is stored: provenance, setup, figures, on request every single measure."""
    target = dataclasses.asdict(setup.target)
    del target["api_key"]
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "bench",
        **provenance(),
        "target": target,
        "load": {"loop": type(setup.load).__name__, **dataclasses.asdict(setup.load)},
        "listening": dataclasses.asdict(setup.listening),
        "summary": dataclasses.asdict(summary),
    }
    if search is not None:
        report |= dataclasses.asdict(search)
    if each is not None:
        report["each"] = [dataclasses.asdict(measure) for measure in each]
    return report


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Store a report, floats rounded; folders are made. Raises SettingsError if it cannot."""
    text = json.dumps(_rounded(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"Cannot write {path}: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A stored report. Raises SettingsError for anything else."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"Cannot read {path}: {error}") from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise SettingsError(f"{path} is not a report of this version of vivavoce.")
    return report


@dataclass(frozen=True, slots=True)
class Change:
    """One figure before and after; ``ratio`` is after / before."""

    name: str
    before: float
    after: float

    @property
    def ratio(self) -> float | None:
        """Under 1: smaller than before."""
        return self.after / self.before if self.before else None


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Every figure that both reports hold, in the order of the tables."""
    old, new = dict(_figures(before)), dict(_figures(after))
    return [Change(name, value, new[name]) for name, value in old.items() if name in new]


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What makes two reports a poor comparison: another machine, transport or load."""
    return [
        f"{name}: {_look_up(before, name)} before, {_look_up(after, name)} now"
        for name in _MUST_MATCH
        if _look_up(before, name) != _look_up(after, name)
    ]


def _figures(report: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    summary = report.get("summary", {})
    for name in (*LATENCIES, *PARTS):
        for quantile in QUANTILES:
            value = (summary.get(name) or {}).get(quantile)
            if value is not None:
                yield f"{name} {quantile}", value
    for row in summary.get("playback", ()):
        yield f"underruns with {row['buffer_ms']:g} ms buffer", row["underruns"]
    requests = summary.get("requests")
    totals = {
        **summary,
        "ok_share": summary.get("ok", 0) / requests if requests else None,
        "max_calls": report.get("max_calls"),
    }
    for name in _TOTALS:
        if totals.get(name) is not None:
            yield name, totals[name]


def _look_up(report: Mapping[str, Any], dotted: str) -> Any:
    value: Any = report
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    # A report read back from disk has lists where a fresh one has tuples.
    return json.loads(json.dumps(_rounded(value)))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DECIMALS)
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return value
