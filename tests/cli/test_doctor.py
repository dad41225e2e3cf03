from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vivavoce.cli import diagnosis


def test_a_healthy_machine(vivavoce: Callable[..., Any]) -> None:
    ran = vivavoce("doctor")
    assert ran.status == 0
    assert "tones, no model" in ran.out
    assert "real-time factor" in ran.out


def test_json_has_the_timings_and_the_changed_settings(vivavoce: Callable[..., Any]) -> None:
    report = json.loads(vivavoce("doctor", "--json", "--set", "api_keys=secret,other").out)
    checks = {check["name"]: check for check in report["checks"]}
    assert report["ok"]
    assert checks["engine"]["facts"]["device"] == "cpu"
    assert checks["test synthesis"]["facts"]["rtf"] > 0
    assert checks["settings"]["facts"]["engine"] == "fake"
    assert "secret" not in json.dumps(report)


def test_an_engine_that_cannot_speak(vivavoce: Callable[..., Any]) -> None:
    ran = vivavoce("doctor", "--set", "fake.fail_word=Ready")
    assert ran.status == 3
    assert "FAULT" in ran.out


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    finding = diagnosis.writable("cache folder", tmp_path / "not" / "there")
    assert finding.state == "note"
    assert "Read-only" in finding.summary


def test_missing_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "extras", lambda: {"odd": ["surely-not-installed"]})
    (finding,) = diagnosis.installed_extras()
    assert (finding.name, finding.state) == ("extra odd", "note")
    assert "surely-not-installed" in finding.summary


def test_a_broken_torch_is_said_and_no_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libtorch is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    findings = {finding.name: finding for finding in diagnosis.accelerators()}
    assert findings["torch"].state == "note"
    assert "libtorch is missing" in findings["torch"].summary


def test_a_piper_without_its_phonemes_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "piper"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "piper", raising=False)
    (finding,) = diagnosis.espeak()
    assert finding.state == "fault"
    (package / "espeak-ng-data").mkdir()
    (finding,) = diagnosis.espeak()
    assert finding.state == "ok"
