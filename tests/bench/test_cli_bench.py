from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from vivavoce.cli.bench import bench
from vivavoce.errors import SettingsError, Unavailable

app = typer.Typer()
app.command()(bench)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=True)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_a_closed_loop_by_default(stand_in: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    code, output = run("--url", stand_in.url, "-c", "2", "-n", "4", "--json", str(path), "--each")
    assert code == 0
    assert "4 of 4 requests good" in output
    stored = json.loads(path.read_text())
    assert stored["summary"]["ok"] == len(stored["each"]) == 4
    assert [row["buffer_ms"] for row in stored["summary"]["playback"]] == [0, 40, 100]
    assert len(stand_in.texts) == len(set(stand_in.texts)) == 6, "two of them to warm up"


def test_an_open_loop_over_websocket_compared_with_before(stand_in: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    arguments = ("--url", stand_in.url, "--transport", "ws", "--rps", "100", "-n", "5")
    assert run(*arguments, "--json", str(path))[0] == 0
    code, output = run(*arguments, "--compare", str(path))
    assert code == 0
    assert "after / before" in output and "Not the same" not in output


def test_find_max_reports_the_number(stand_in: Any) -> None:
    code, output = run(
        "--url", stand_in.url, "--find-max", "--max-calls", "3", "-n", "1", "--buffer-ms", "300"
    )
    assert code == 0
    assert "Calls at once without failure or underrun: 3" in output


def test_own_texts_may_repeat(stand_in: Any, tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("Second.\n")
    arguments = ("--text", "First.", "--texts", str(path), "--repeat-texts", "-n", "4")
    run("--url", stand_in.url, "--warmup", "0", *arguments)
    assert sorted(stand_in.texts) == ["First.", "First.", "Second.", "Second."]


def test_only_failures_is_a_failure(stand_in: Any) -> None:
    code, output = run("--url", stand_in.url, "-n", "2", "--text", "FAULT")
    assert code == 1
    assert "errors: engine_error 2" in output


def test_no_server_is_said_so() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(Unavailable, match=url):
            run("--url", url)


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    assert run("--rps", "1", "--find-max")[0] == 2
    with pytest.raises(SettingsError):
        run("--compare", str(tmp_path / "none.json"))


def test_the_key_may_come_from_the_servers_own_variable(
    stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIVAVOCE_API_KEYS", "first, second")
    run("--url", stand_in.url, "-n", "1", "--warmup", "0")
    assert stand_in.keys == ["Bearer first"]
