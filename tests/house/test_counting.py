"""The counts are printed side by side, for commits and folders, with PyTorch and without."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from house import counting

ROOT = Path(__file__).parents[2]


def planted(folder: Path, files: dict[str, str]) -> Path:
    """A checkout of a small package."""
    (folder / "benchmarks").mkdir(parents=True)
    (folder / "pyproject.toml").write_text("[tool.importlinter]\ncontracts = []\n")
    for name, text in files.items():
        file = folder / "src" / counting.PACKAGE / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def test_two_checkouts_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    once = "def _f(): ...\ndef g():\n    _f()\n"
    left = planted(tmp_path / "left", {"__init__.py": "", "a.py": once})
    wide = {"serving/ws.py": "from vivavoce import a\n", "a.py": "", "__init__.py": ""}
    right = planted(tmp_path / "right", wide)
    kept = tmp_path / "house.json"
    monkeypatch.setattr(
        sys, "argv", ["counting", "--json", str(kept), f"old={left}", f"new={right}"]
    )
    counting.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "|  | old | new |"
    assert "| files in src | 2 | 3 |" in printed
    assert "| private functions named once, share | 50.0% | 0.0% |" in printed
    assert "| lines of a socket protocol | 0 | 1 |" in printed
    frame = next(line for line in printed if "frame passes" in line)
    assert frame.count("not counted") == 2
    counts = json.loads(kept.read_text())["counts"]
    assert counts["new"]["import arrows, file to file"] == 1


def test_a_name_that_is_no_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["counting", "nowhere-to-be-found"])
    with pytest.raises(SystemExit, match="nowhere-to-be-found is no folder"):
        counting.main()


@pytest.mark.skipif(find_spec("torch") is None, reason="needs PyTorch")
def test_what_a_frame_passes() -> None:
    files = counting.frame_files(ROOT)
    assert isinstance(files, list), files
    assert {"engines/qwen3/engine.py", "engines/qwen3/frame.py"} <= set(files)
    assert not any(name.startswith("testing/") for name in files)
