"""Files for GitHub and pre-commit follow their schemas, and text files end as editors expect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from house.test_words import files

ROOT = Path(__file__).parents[2]
PUBLISHED = ("tests/data/", "src/vivavoce/testing/published/", ".ci/full-summary.txt")
SCHEMAS = {
    ".github/workflows/*.yml": "github-workflows",
    ".github/dependabot.yml": "dependabot",
    ".github/ISSUE_TEMPLATE/*.yml": "github-issue-forms",
}


@pytest.mark.parametrize("pattern", SCHEMAS)
def test_it_follows_the_schema(pattern: str) -> None:
    found = [str(path) for path in sorted(ROOT.glob(pattern))]
    assert found
    command = [sys.executable, "-m", "check_jsonschema"]
    command += ["--builtin-schema", f"vendor.{SCHEMAS[pattern]}", *found]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflows_run_what_everybody_runs() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "run: bash .ci/run\n" in text


def test_hooks_download_nothing() -> None:
    config = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")
    assert {each["repo"] for each in config["repos"]} == {"local"}
    hooks = [hook for each in config["repos"] for hook in each["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}


def test_text_files_end_with_one_line_break() -> None:
    texts = [path for path in files() if not str(path.relative_to(ROOT)).startswith(PUBLISHED)]
    strange = []
    for path in texts:
        content = path.read_bytes()
        if content and content != content.rstrip(b"\r\n") + b"\n":
            strange.append(str(path.relative_to(ROOT)))
    assert strange == []
