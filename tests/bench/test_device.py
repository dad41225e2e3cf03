from __future__ import annotations

import json
import platform

import pytest

from vivavoce.bench import device


def test_provenance_is_complete_and_fits_json() -> None:
    found = device.provenance(["/usr/bin/vivavoce", "bench"])
    assert json.loads(json.dumps(found)) == found
    assert found["command"] == "vivavoce bench"
    assert found["device"]["cores"] >= 1 and found["device"]["cpu"]
    assert found["versions"]["python"] == platform.python_version()
    assert "numpy" in found["versions"]
    assert found["load_average"] >= 0
    assert platform.node() not in (found["command"], found["device"]["cpu"])


@pytest.mark.parametrize("arguments", [["--api-key", "k3y"], ["--api-key=k3y"]])
def test_keys_are_masked(arguments: list[str]) -> None:
    line = device.command_line(["/x/vivavoce", "bench", *arguments, "--text", "two words"])
    assert "k3y" not in line and "***" in line
    assert line.endswith("--text 'two words'")


def test_files_are_told_without_their_folders() -> None:
    words = ["-o", "/srv/me/found.json", "--into=/srv/me/more.json", "--models", "here/tiny"]
    line = device.command_line(["/x/made.py", *words])
    assert line == "made.py -o found.json --into=more.json --models here/tiny"
