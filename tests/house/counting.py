"""Counts of the house, for one checkout or for several side by side.

Files, lines and arrows say how much there is to read, not whether it reads well: they are printed.
What must not grow (circles, arrows upward, imports a file, functions that are named once, lines of
a protocol) is held by ``test_style.py``. Nothing but Python is needed; what a frame of Qwen3-TTS
passes is counted where PyTorch and numpy are installed, by running one.
"""

from __future__ import annotations

import argparse
import ast
import json
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGE = "vivavoce"
SOCKET_PROTOCOL = ("serving/dialects/websocket.py", "serving/ws.py")
"""Where the WebSocket protocol stands, and where it stood."""
DOUBLES = ("testing/", "engines/capture/recording.py", "engines/capture/tape.py")
"""A stand-in for CUDA graphs runs the frame here; no caller's frame passes it."""
FRAME_HOME = ("engines/qwen3/frame.py", "frame")
FRAME_TIMEOUT_S = 300

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file of Python: ``path`` relative to its root, ``name`` as it is imported."""

    path: str
    text: str
    name: str = ""

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))


def read(folder: Path, root: Path) -> list[Module]:
    """Every file of Python in a folder; names and paths begin behind ``root``."""
    found = []
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(str(file.relative_to(folder)), file.read_text(encoding="utf-8"), name))
    return found


def package(checkout: Path) -> list[Module]:
    """The files of the package, by their paths in it."""
    return read(checkout / "src" / PACKAGE, checkout / "src")


def arrows(modules: Iterable[Module]) -> dict[str, set[str]]:
    """Which files of the package each file imports: in functions and for types, too."""
    known = {module.name: module for module in modules}
    return {name: set(_imported(module, known)) - {name} for name, module in known.items()}


def _imported(module: Module, known: dict[str, Module]) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                own = module.name.split(".")
                above = own[: len(own) - node.level + module.is_package]
                base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in known or base in known:
                    yield inner if inner in known else base


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of files that import each other, directly or around (Tarjan's components)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = lowest[name] = len(index)
        stack.append(name)
        for target in graph[name]:
            if target not in index:
                visit(target)
                lowest[name] = min(lowest[name], lowest[target])
            elif target in stack:
                lowest[name] = min(lowest[name], index[target])
        if lowest[name] == index[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for name in graph:
        if name not in index:
            visit(name)
    return found


def upward(graph: dict[str, set[str]], checkout: Path) -> list[str]:
    """Arrows from a layer to one above it, or to its neighbor, by the checkout's own contracts."""
    settings = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    found = []
    for contract in contracts:
        if contract["type"] != "layers":
            continue
        for container in contract.get("containers", [""]):
            height = _heights(contract["layers"], container)
            for name, targets in graph.items():
                here = _layer(name, height)
                for target in sorted(targets):
                    there = _layer(target, height)
                    if here and there and here != there and height[there] <= height[here]:
                        found.append(f"{name} -> {target}")
    return found


def _heights(layers: list[str], container: str) -> dict[str, int]:
    """How far down each layer lies; those of one line are neighbors, who do not know each other."""
    prefix = f"{container}." if container else ""
    return {
        prefix + each.strip(): depth
        for depth, line in enumerate(layers)
        for each in line.split("|")
    }


def _layer(name: str, heights: dict[str, int]) -> str | None:
    return next((one for one in heights if name == one or name.startswith(one + ".")), None)


def named_once(modules: list[Module]) -> list[tuple[Module, Function]]:
    """Private functions whose name stands in the package where they are made and once besides."""
    words = Counter(word for module in modules for word in re.findall(r"\w+", module.text))
    return [
        (module, function)
        for module in modules
        for function in module.functions()
        if is_private(function.name) and words[function.name] == 2
    ]


def is_private(name: str) -> bool:
    """Whether a name is for its own file."""
    return name.startswith("_") and not name.startswith("__")


def counted(checkout: Path, commit: str) -> dict[str, Any]:
    """All counts of a checkout, by what stands before each row of the table."""
    modules = package(checkout)
    graph = arrows(modules)
    benchmarks = read(checkout / "benchmarks", checkout)
    functions = sum(1 for module in modules for _ in module.functions())
    once = named_once(modules)
    most = max(graph, key=lambda name: len(graph[name]))
    protocol = {module.path: module.lines for module in modules if module.path in SOCKET_PROTOCOL}
    frame = frame_files(checkout)
    return {
        "commit": commit,
        "files in src": len(modules),
        "import arrows, file to file": sum(map(len, graph.values())),
        "circles of imports": len(circles(graph)),
        "arrows upward": len(upward(graph, checkout)),
        "lines of src and benchmarks": sum(module.lines for module in [*modules, *benchmarks]),
        "lines of engines/neutts": sum(
            module.lines for module in modules if module.path.startswith("engines/neutts/")
        ),
        "functions": functions,
        "private functions named once": len(once),
        "private functions named once, share": round(len(once) / max(1, functions), 4),
        "most first-party imports a file": len(graph[most]),
        "the file with most": most,
        "files with more than 12": sum(len(targets) > 12 for targets in graph.values()),
        "lines of a socket protocol": sum(protocol.values()),
        "files that a Qwen3-TTS frame passes": frame if isinstance(frame, str) else len(frame),
    }


@contextmanager
def checked_out(what: str) -> Iterator[tuple[Path, str]]:
    """A folder and its commit, of a folder or of a commit of this repository."""
    if Path(what).is_dir():
        folder = Path(what).resolve()
        changed = "+" if _git(folder, "status", "--porcelain", "--", "src", "benchmarks") else ""
        yield folder, (_git(folder, "rev-parse", "--short", "HEAD") or "unknown") + changed
        return
    commit = _git(ROOT, "rev-parse", "--short", f"{what}^{{commit}}")
    if not commit:
        raise SystemExit(f"{what} is no folder, and no commit of this repository")
    with tempfile.TemporaryDirectory() as name:
        archive = Path(name) / "archive.tar"
        _git(ROOT, "archive", "-o", str(archive), commit)
        with tarfile.open(archive) as files:
            files.extractall(Path(name) / "checkout", filter="data")
        yield (Path(name) / "checkout").resolve(), commit


def _git(folder: Path, *words: str) -> str:
    """What git prints; nothing where it fails or is not there."""
    command = ["git", "-C", str(folder), *words]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def frame_files(checkout: Path) -> list[str] | str:
    """The files whose code makes a frame of a captured row, or why that cannot be told here.

    Those that run while the frame is recorded, and those that a call's steps run, from its prompt
    to the end of its speech, when records are replayed, read and made into sound.
    """
    missing = [name for name in ("torch", "numpy", "safetensors") if find_spec(name) is None]
    if missing:
        return f"not counted: {', '.join(missing)} is not installed"
    command = [sys.executable, __file__, "--frame", str(checkout.resolve())]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=FRAME_TIMEOUT_S
    )
    if ran.returncode:
        return f"not counted: {ran.stderr.strip().splitlines()[-1]}"
    return list(json.loads(ran.stdout.splitlines()[-1]))


class Passed:
    """Which files of a checkout run, while it is asked to look."""

    def __init__(self, base: Path) -> None:
        self.files: set[str] = set()
        self._base = f"{base}/"
        self._depth = 0

    def during(self, work: Callable[[], Any]) -> Any:
        """Run ``work`` and note all of it."""
        sys.setprofile(self._note_all)
        try:
            return work()
        finally:
            sys.setprofile(None)

    def during_frames_of(self, work: Callable[[], Any]) -> Any:
        """Run ``work`` and note what runs in the function that makes a frame."""
        sys.setprofile(self._note_frames)
        try:
            return work()
        finally:
            sys.setprofile(None)

    def _note_all(self, frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(self._base):
            self.files.add(name.removeprefix(self._base))

    def _note_frames(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        home = (code.co_filename.removeprefix(self._base), code.co_name) == FRAME_HOME
        if event == "call":
            self._depth += home
            if self._depth:
                self._note_all(frame, event, _)
        elif event == "return":
            self._depth -= home


def run_a_frame(checkout: Path) -> list[str]:
    """Let a tiny random checkpoint speak on the stand-in for CUDA graphs. Needs PyTorch."""
    sys.path.insert(0, str(checkout / "src"))
    import torch

    torch.set_num_threads(1)
    modules = package(checkout)
    make, engine_of, options_of, graphs_of, capturing_of = (
        _found(modules, name)
        for name in ("make_random_checkpoint", "Qwen3Engine", "Qwen3Options", "RecordingGraphs",
                     "Capturing")
    )  # fmt: skip
    types = import_module(f"{PACKAGE}.types")
    passed = Passed(checkout / "src" / PACKAGE)
    with tempfile.TemporaryDirectory() as folder:
        model = make(
            "Qwen3-TTS-12Hz-0.6B-CustomVoice", Path(folder) / "model", tiny=True,
            **_tokenizer_of(checkout),
        )  # fmt: skip
        options = options_of(model=model, device="cpu", threads=1, positions=128, capacity=4)
        engine = engine_of(options, capturing_of(graphs_of()))
        passed.during_frames_of(engine.load)
        utterance = types.Utterance(
            (types.Span("A sentence that goes on for longer than a few frames."),),
            options={"max_frames": 40},
            voice=engine.voices()[0],
            sampling=types.Sampling(seed=7),
        )
        engine.admit(utterance)
        for _ in range(200):
            if any(produced.last for produced in passed.during(engine.step)):
                break
    return sorted(name for name in passed.files if not name.startswith(DOUBLES))


def _tokenizer_of(checkout: Path) -> dict[str, Path]:
    """Published tokenizer files, where a checkout has them; later commits bring them along."""
    folder = checkout / "tests" / "data" / "qwen3" / "checkpoint_files"
    return {"tokenizer": folder} if (folder / "vocab.json").is_file() else {}


def _found(modules: list[Module], name: str) -> Any:
    """A class or function by its name, in whichever file of this checkout it is."""
    for module in modules:
        if any(getattr(node, "name", None) == name for node in module.tree.body):
            return getattr(import_module(module.name), name)
    raise LookupError(f"{name} is nowhere in this checkout")


def table(columns: dict[str, dict[str, Any]]) -> str:
    """The counts as Markdown, a column a checkout."""
    rows = list(next(iter(columns.values())))
    lines = [["", *columns], ["---", *("---:" for _ in columns)]]
    lines += [[row, *(_cell(row, counts[row]) for counts in columns.values())] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: str, count: Any) -> str:
    return f"{count:.1%}" if row.endswith("share") else str(count)


def main() -> None:
    """Print the table, and keep it where ``--json`` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "checkouts",
        nargs="*",
        metavar="[NAME=]CHECKOUT",
        help="a folder, or a commit of this repository; without one: this checkout",
    )
    parser.add_argument("--json", type=Path, help="keep the counts in this file")
    parser.add_argument("--frame", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.frame:
        print(json.dumps(run_a_frame(arguments.frame)))
        return
    columns = {}
    for each in arguments.checkouts or [f"now={ROOT}"]:
        name, _, what = each.rpartition("=")
        with checked_out(what) as (folder, commit):
            columns[name or what] = counted(folder, commit)
    print(table(columns))
    if arguments.json:
        kept = {
            "schema": 1,
            "kind": "house",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": "tests/house/counting.py",
            "versions": {"python": platform.python_version()},
            "counts": columns,
        }
        arguments.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
