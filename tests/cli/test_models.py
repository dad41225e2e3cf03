from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from vivavoce.cli.models import models
from vivavoce.errors import ModelFileError

NAME = "Qwen3-TTS-12Hz-0.6B-CustomVoice"


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(models, list(arguments))


def test_table() -> None:
    ran = _run()
    assert ran.exit_code == 0
    assert NAME in ran.output
    assert "2.5 GB" in ran.output


def test_json() -> None:
    rows: list[dict[str, Any]] = json.loads(_run("--json").output)
    assert len(rows) == 5
    assert {row["folder"] for row in rows} == {None}
    assert {row["licence"] for row in rows} == {"Apache-2.0"}


def test_a_random_model_is_verified(tmp_path: Path) -> None:
    folder = str(tmp_path / "model")
    assert _run("random", NAME, folder, "--tiny", "--seed", "3").output.strip() == folder
    said = _run("verify", folder).output
    assert "custom_voice, size 0b6" in said
    assert "nothing published" in said


def test_verify_names_what_is_wrong(tmp_path: Path) -> None:
    ran = _run("verify", str(tmp_path))
    with pytest.raises(ModelFileError, match=r"merges\.txt"):
        raise ran.exception or AssertionError


def test_download_puts_models_below_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vivavoce.engines.qwen3 import hub

    asked: list[tuple[str, Path]] = []

    def fake(name: str, root: Path) -> Path:
        asked.append((name, root))
        return root / name

    monkeypatch.setattr(hub, "download_model", fake)
    ran = _run("download", NAME)
    assert asked == [(NAME, tmp_path / "data" / "models")]
    assert ran.output.strip() == str(tmp_path / "data" / "models" / NAME)
