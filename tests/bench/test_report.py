from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vivavoce.bench.clients import Target
from vivavoce.bench.heard import Failure, Listening, Measure, Playback
from vivavoce.bench.load import ClosedLoop, Summary, summarize
from vivavoce.bench.results import (
    Search,
    Setup,
    bench_report,
    changes,
    changes_view,
    differences,
    number,
    read_json,
    summary_view,
    write_json,
)
from vivavoce.errors import SettingsError

SETUP = Setup(Target(api_key="secret-key"), ClosedLoop(requests=2), Listening((0.0, 40.0)))


def measure(latency_ms: float) -> Measure:
    return Measure(
        characters=5,
        lag_ms=0.0,
        total_ms=latency_ms * 2,
        first_byte_ms=latency_ms,
        first_playable_ms=latency_ms,
        audible_ms=latency_ms,
        audio_s=1.0,
        work_s=0.25,
        playback=(Playback(0.0, 1, 12.0), Playback(40.0, 0, 0.0)),
    )


def summary(latency_ms: float = 50.0) -> Summary:
    refused = Measure(5, 0.0, 3.0, Failure("busy", 429, 1500.0))
    return summarize([measure(latency_ms), measure(latency_ms), refused], wall_s=2.0)


def report(latency_ms: float = 50.0, **more: Any) -> dict[str, Any]:
    return bench_report(SETUP, summary(latency_ms), **more)


def test_a_report_survives_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    made = report(search=Search(7, ((8, False), (7, True))), each=[measure(1.0)])
    write_json(path, made)
    stored = read_json(path)
    assert stored["summary"]["audible_ms"]["p50"] == 50.0
    assert stored["summary"]["rejections"]["retry_after_ms"]["p50"] == 1500.0
    assert (stored["max_calls"], stored["each"][0]["audio_s"]) == (7, 1.0)
    assert stored["levels"] == [[8, False], [7, True]]
    assert {"date", "command", "device", "versions", "commit"} <= stored.keys()
    assert differences(stored, made) == []


def test_a_report_holds_no_key() -> None:
    assert "secret-key" not in json.dumps(report())


@pytest.mark.parametrize("content", ["{}", "[]", "no json", None])
def test_another_file_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "other.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError):
        read_json(path)


def test_a_report_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError):
        write_json(tmp_path / "file" / "report.json", {})


def test_changes_are_ratios_of_after_to_before() -> None:
    found = {
        change.name: change for change in changes(report(50.0), report(100.0, search=Search(3)))
    }
    assert found["audible_ms p95"].ratio == pytest.approx(2.0)
    assert found["rtf p50"].ratio == pytest.approx(1.0)
    assert (found["underruns with 0 ms buffer"].before, found["ok_share"].after) == (
        2,
        pytest.approx(2 / 3),
    )
    assert found["underruns with 40 ms buffer"].ratio is None
    assert "max_calls" not in found


def test_other_loads_and_machines_are_named() -> None:
    other = report()
    other["load"] = {**other["load"], "concurrency": 9}
    other["device"] = {**other["device"], "cpu": "abacus"}
    named = "\n".join(differences(report(), other))
    assert "device.cpu" in named and "abacus" in named and "load" in named


def rendered(view: Any) -> str:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(view)
    return console.export_text()


def test_the_view_shows_what_a_reader_needs() -> None:
    text = rendered(summary_view(summary()))
    assert "first audible sample, ms" in text
    assert "2 of 3 requests good" in text
    assert "errors: busy 1" in text
    assert "refused (429): 1, 1 with a retry time" in text and "1500 ms p50" in text


def test_the_comparison_begins_with_what_a_caller_waits() -> None:
    lines = rendered(changes_view(changes(report(50.0), report(100.0)))).splitlines()
    named = [line.split("│")[1].strip() for line in lines if line.startswith("│")]
    assert named[:4] == ["first byte, ms, median", "first byte, ms, p95", "first byte, ms, p99",
                         "first byte, ms, longest"]  # fmt: skip
    assert named[4] == "first audible sample, ms, median"
    assert named[8] == "whole answer, ms, median"
    assert lines[0].strip() == "What a caller waits, before and after"
    assert named.count("first byte, ms, median") == 1 and "real-time factor, median" in named
    assert "underruns with 0 ms buffer" in named and "ok share" in named
    assert any("2.000" in line for line in lines)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (3.0, "3"), (0.12345, "0.123"), (1234.56, "1234.6"), (12.34, "12.3")],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text
