from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vivavoce.cli import doctor
from vivavoce.runtime.nvidia import Driver
from vivavoce.types import Gpu


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
    finding = doctor.writable("cache folder", tmp_path / "not" / "there")
    assert finding.state == "note"
    assert "Read-only" in finding.summary


def test_missing_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "extras", lambda: {"odd": ["surely-not-installed"]})
    (finding,) = doctor.installed_extras()
    assert (finding.name, finding.state) == ("extra odd", "note")
    assert "surely-not-installed" in finding.summary


def test_a_broken_torch_is_said_and_no_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libtorch is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    findings = {finding.name: finding for finding in doctor.accelerators()}
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
    (finding,) = doctor.espeak()
    assert finding.state == "fault"
    (package / "espeak-ng-data").mkdir()
    (finding,) = doctor.espeak()
    assert finding.state == "ok"


def test_developers_extras_are_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "extras", lambda: {"dev": ["surely-not-installed"], "odd": []})
    assert [finding.name for finding in doctor.installed_extras()] == ["extra odd"]


def test_the_card_and_the_weights_are_told_as_a_person_reads_them(
    vivavoce: Callable[..., Any],
) -> None:
    ran = vivavoce("doctor", "--set", "fake.gpu=Planted 4060")
    said = "Planted 4060, 2,100 MB allocated, 2,304 MB reserved, 5,000 MB free, 8,188 MB total"
    assert said in " ".join(ran.out.split())
    assert "tones none (there are no weights)" in ran.out


def test_without_a_card_none_is_told(vivavoce: Callable[..., Any]) -> None:
    assert "engine's GPU" not in vivavoce("doctor").out


def test_a_driver_is_told_with_its_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Gpu("RTX 4060", 5_000 * 2**20, 8_188 * 2**20)
    monkeypatch.setattr(doctor, "find_driver", lambda: Driver("550.54", (12, 4), (card,)))
    found = {finding.name: finding for finding in doctor.accelerators()}["GPU"]
    assert found.state == "ok"
    assert found.summary == (
        "RTX 4060 (5,000 of 8,188 MB free); driver 550.54, for CUDA up to 12.4"
    )
    monkeypatch.setattr(doctor, "find_driver", lambda: None)
    found = {finding.name: finding for finding in doctor.accelerators()}["GPU"]
    assert (found.state, found.summary) == ("note", "no NVIDIA driver was found")


def test_variables_of_another_server_are_answered(
    vivavoce: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_BATCH_SIZE", "4")
    assert "MAX_BATCH_SIZE=4 has no effect" in vivavoce("doctor").out
