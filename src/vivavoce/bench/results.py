"""Results on disk (JSON), side by side, and for people: tables for the terminal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from vivavoce.bench.clients import Target
from vivavoce.bench.device import provenance
from vivavoce.bench.heard import Listening, Measure
from vivavoce.bench.load import ClosedLoop, OpenLoop, Summary
from vivavoce.bench.stats import Distribution
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


_LABELS = {
    "first_byte_ms": "first byte, ms",
    "first_playable_ms": "first playable sample, ms",
    "audible_ms": "first audible sample, ms",
    "total_ms": "whole answer, ms",
    "chunk_gap_ms": "gap between chunks, ms",
    "rtf": "real-time factor",
    "schedule_lag_ms": "sent later than due, ms",
    "loop_lag_ms": "this client's own lag, ms",
    "queue_ms": "queue, ms",
    "inference_ms": "inference, ms",
    "network_ms": "network and HTTP, ms",
}

_QUANTILES = {"p50": "median", "max": "longest"}
WAITS = ("first_byte_ms", "audible_ms", "total_ms")
"""Until the first byte, until something is heard, and until all of it is there."""


def number(value: float | None) -> str:
    """A figure with as many decimals as its size deserves."""
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def summary_view(summary: Summary) -> Group:
    """One run: latencies, their parts where the server tells of them, playback, totals."""
    parts = (_parts(summary),) if summary.network_ms is not None else ()
    return Group(_latencies(summary), *parts, _playback(summary), _totals(summary))


def each_table(measures: Sequence[Measure]) -> Table:
    """Where the time of every request went, in the order in which they ended."""
    parts = ("queue", "inference", "network", "first byte")
    columns = ("request", *parts, "first audible", "to the end", "sound, s")
    return figure_table(
        "Each request, ms", columns, [_each_row(*pair) for pair in enumerate(measures, 1)]
    )


def figure_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Any table whose first column is a name and whose others are figures or words."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        cells = [number(c) if isinstance(c, int | float) or c is None else str(c) for c in row]
        table.add_row(*cells)
    return table


def distribution_row(name: str, distribution: Distribution | None) -> list[object]:
    """A name and its quantiles; dashes where nothing was measured."""
    return [name, *(getattr(distribution, quantile, None) for quantile in QUANTILES)]


def changes_view(changes: Sequence[Change]) -> Group:
    """Before and after: first what a caller waits, then every other figure."""
    waits = [change for change in changes if _figure(change) in WAITS]
    rest = [change for change in changes if change not in waits]
    tables = {"What a caller waits, before and after": waits, "The rest": rest}
    columns = ("", "before", "after", "after / before")
    return Group(
        *(
            figure_table(title, columns, [_change_row(change) for change in found])
            for title, found in tables.items()
            if found
        )
    )


def _figure(change: Change) -> str:
    return change.name.partition(" ")[0]


def _change_row(change: Change) -> list[object]:
    figure, _, quantile = change.name.partition(" ")
    label = _LABELS.get(figure)
    name = f"{label}, {_QUANTILES.get(quantile, quantile)}" if label else change.name
    return [name.replace("_", " "), change.before, change.after, _ratio(change)]


def _ratio(change: Change) -> str:
    return "–" if change.ratio is None else f"{change.ratio:.3f}"


def _latencies(summary: Summary) -> Table:
    rows = [distribution_row(_LABELS[name], getattr(summary, name)) for name in LATENCIES]
    return figure_table("Latency, from when each request was due", ("", *QUANTILES), rows)


def _parts(summary: Summary) -> Table:
    rows = [distribution_row(_LABELS[name], getattr(summary, name)) for name in PARTS]
    return figure_table("The parts of the time to the first byte", ("", *QUANTILES), rows)


def _each_row(number_of: int, measure: Measure) -> list[object]:
    if measure.failure is not None:
        return [f"{number_of}: {measure.failure.code}", *[None] * 7]
    parts = measure.breakdown
    told = [None] * 3 if parts is None else [parts.queue_ms, parts.inference_ms, parts.network_ms]
    first_ms = measure.first_byte_ms or 0.0
    rest_ms = measure.total_ms - first_ms
    audible_ms = None if measure.audible_ms is None else measure.audible_ms - measure.lag_ms
    heard = [first_ms - measure.lag_ms, audible_ms]
    return [str(number_of), *told, *heard, rest_ms, measure.audio_s]


def _playback(summary: Summary) -> Table:
    rows = [
        [f"{row.buffer_ms:g} ms", row.streams_with_underrun, row.underruns, row.stalled_ms]
        for row in summary.playback
    ]
    columns = ("client buffer", "streams that stalled", "underruns", "stalled, ms")
    return figure_table("Playback", columns, rows)


def _totals(summary: Summary) -> Text:
    lines = [
        f"{summary.ok} of {summary.requests} requests good in {summary.wall_s:.1f} s: "
        f"{summary.requests_per_s:.2f} requests/s, "
        f"{summary.audio_s_per_s:.2f} s of sound a second",
    ]
    if summary.errors:
        listed = ", ".join(f"{code} {count}" for code, count in summary.errors.items())
        lines.append(f"errors: {listed}")
    if summary.rejections.count:
        lines.append(_rejections_line(summary))
    return Text("\n".join(lines))


def _rejections_line(summary: Summary) -> str:
    rejections = summary.rejections
    answered, after = rejections.answered_ms, rejections.retry_after_ms
    line = f"refused (429): {rejections.count}, {rejections.with_retry_after} with a retry time"
    if answered:
        line += f"; answered in {number(answered.p50)} ms p50, {number(answered.max)} ms max"
    if after:
        line += f"; asked to wait {number(after.p50)} ms p50"
    return line
