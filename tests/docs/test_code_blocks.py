"""Every code block of the documents is run.

``python`` and ``bash`` blocks must succeed; ``console`` blocks must print what they show (a line
``…`` stands for any lines). An HTML comment ``<!-- skip: reason -->`` before a block exempts it.
The server of the examples is a live one on another port.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from vivavoce import errors
from vivavoce.bench.recipes.book import recipes
from vivavoce.settings import Settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]  # fmt: skip
RUNNABLE = ("python", "bash", "console", "toml")
FENCE = re.compile(
    r"(?:<!-- skip: (?P<skip>[^>]+) -->\n\s*)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
ADDRESS = re.compile(r"(127\.0\.0\.1|localhost):8000")
TIMEOUT_S = 100


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    document: str
    line: int
    language: str
    text: str
    skip: str | None

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks() -> list[Block]:
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start("text"))
            name = str(document.relative_to(ROOT))
            found.append(Block(name, line, match["language"], match["text"], match["skip"]))
    return found


BLOCKS = blocks()


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language in RUNNABLE], ids=str)
def test_block(block: Block, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if block.skip is not None:
        pytest.skip(block.skip)
    text = block.text
    if ADDRESS.search(text):
        port = request.getfixturevalue("server_port")
        text = ADDRESS.sub(rf"\1:{port}", text)
    match block.language:
        case "python":
            run([sys.executable, "-W", "error", "-c", text], tmp_path)
        case "bash":
            run(["bash", "-euo", "pipefail", "-c", text], tmp_path)
        case "console":
            check_console(text, tmp_path)
        case "toml":
            check_settings(text, tmp_path)


def test_every_block_says_what_it_is() -> None:
    assert [str(block) for block in BLOCKS if not block.language] == []


def test_the_readme_opens_with_its_two_commands() -> None:
    install, test = [block.text for block in BLOCKS if block.document == "README.md"][:2]
    assert "'.[piper]'" in install
    assert install.rstrip().endswith("vivavoce serve")
    assert "'.[piper,dev]'" in test
    assert test.rstrip().endswith("pytest -q")
    assert all(text.count("\n") == 1 for text in (install, test))


def run(command: list[str], folder: Path) -> str:
    """What a command prints; fails with its output where it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        command, cwd=folder, env=environment() | {"PATH": path}, timeout=TIMEOUT_S,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def environment() -> dict[str, str]:
    """The environment without settings, but with the cache."""
    return {
        name: value
        for name, value in os.environ.items()
        if name == "VIVAVOCE_CACHE_DIR" or not name.startswith("VIVAVOCE_")
    }


def check_console(text: str, folder: Path) -> None:
    """Run each ``$ command`` and compare what it prints with the lines that follow."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        printed = run(["bash", "-euo", "pipefail", "-c", command], folder)
        assert matches(printed.splitlines(), expected.splitlines()), printed


def matches(printed: list[str], expected: list[str]) -> bool:
    """Whether lines are those expected, where ``…`` stands for any text or any lines."""
    pattern = "\n".join(expected).translate({ord("["): "[[]"}).replace("…", "*")
    return fnmatchcase("\n".join(printed).strip(), pattern.strip())


def check_settings(text: str, folder: Path) -> None:
    """A configuration file in the documents is one that the program takes."""
    from vivavoce.settings import load_settings

    file = folder / "settings.toml"
    file.write_text(text, encoding="utf-8")
    assert isinstance(load_settings(file), Settings)


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        (["a [1]", "b"], ["a [1]", "b"], True),
        (["a", "x", "y", "b"], ["a", "…", "b"], True),
        (["took 3 ms"], ["took … ms"], True),
        (["a"], ["b"], False),
    ],
)
def test_console_comparison(printed: list[str], expected: list[str], same: bool) -> None:
    assert matches(printed, expected) is same


LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def test_links_between_documents_lead_somewhere() -> None:
    missing = []
    for document in DOCUMENTS:
        for target, anchor in LINK.findall(document.read_text(encoding="utf-8")):
            file = document.parent / target if target else document
            if not file.exists() or (anchor and anchor not in anchors(file)):
                missing.append(f"{document.name}: {target}#{anchor}")
    assert missing == []


def anchors(document: Path) -> set[str]:
    """What can stand behind ``#`` for a document: its headings, as sites write them."""
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    plain = [re.sub(r"[^\w\s-]", "", heading.lower()) for heading in HEADING.findall(text)]
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_what_the_reference_of_python_names_is_there() -> None:
    from pkgutil import resolve_name

    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    names = re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)
    assert len(names) > 10
    assert all(resolve_name(re.sub(r"\.(?=[A-Z]|load$)", ":", name, count=1)) for name in names)


def test_every_recipe_is_documented_and_every_documented_one_is_there() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    named = set(re.findall(r"vivavoce bench recipe (\w+)", text))
    assert named == set(recipes())


def test_every_endpoint_is_documented() -> None:
    from vivavoce.serving.app import create_app
    from vivavoce.speech.service import SpeechService
    from vivavoce.testing.fake_engine import FakeEngine

    paths = create_app(SpeechService(FakeEngine()), Settings()).openapi()["paths"]
    text = "".join(
        (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("api.md", "operations.md")
    )
    undocumented = [path for path in paths if path.partition("/{")[0] not in text]
    assert undocumented == []


def test_every_metric_is_documented() -> None:
    from vivavoce.serving.metrics import PrometheusObserver

    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    names = [metric.name for metric in PrometheusObserver().registry.collect()]
    assert names
    assert [name for name in names if f"`{name}" not in text] == []


def test_every_error_code_of_a_request_is_documented() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    kinds = [errors.VivavoceError, *subclasses(errors.VivavoceError)]
    codes = {kind.code for kind in kinds if not issubclass(kind, NOT_ANSWERS)}
    assert {code for code in codes if f"`{code}`" not in text} == set()


NOT_ANSWERS = (errors.SetupError, errors.Cancelled)


def subclasses(kind: type[errors.VivavoceError]) -> list[type[errors.VivavoceError]]:
    """A class's descendants."""
    children = kind.__subclasses__()
    return [*children, *(below for child in children for below in subclasses(child))]
