"""Results for people: tables for the terminal, made by rich."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from vivavoce.bench.measures import Measure
from vivavoce.bench.report import LATENCIES, PARTS, QUANTILES, Change
from vivavoce.bench.stats import Distribution
from vivavoce.bench.summary import Summary

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
