"""What recipes share: their result, processes of their own, and checkouts beside this one.

Imports nothing of vivavoce at the top: processes that measure an earlier checkout import it, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
"""The checkout that this is a part of."""
RESULTS = ROOT / "benchmarks" / "results"

_WORK = (
    "import sys; sys.path.append({folder!r}); "
    "from importlib import import_module; import_module({module!r}).work(*sys.argv[1:])"
)


@dataclass(frozen=True, slots=True)
class Result:
    """What was found; ``well``: as it was promised, ``keep``: it is to be stored."""

    figures: Mapping[str, Any]
    well: bool = True
    keep: bool = True


def before_option(parser: argparse.ArgumentParser) -> None:
    """``--before CHECKOUT``."""
    parser.add_argument("--before", type=Path, help="another checkout, measured beside this one")


def tests_on_path() -> None:
    """Make the helpers of the tests importable; they come with a checkout only."""
    folder = str(ROOT / "tests")
    if folder not in sys.path:
        sys.path.insert(0, folder)


def environment_for(checkout: Path | None) -> dict[str, str]:
    """What makes a process import the vivavoce of a checkout; None: of this one."""
    source = HERE.parents[2] if checkout is None else checkout.resolve() / "src"
    return {"PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")])}


def worker_command(module: str, *words: object) -> list[str]:
    """The command of a process that runs ``work`` of a recipe."""
    code = _WORK.format(folder=str(HERE.parent), module=f"{HERE.name}.{module}")
    return [sys.executable, "-P", "-c", code, *map(str, words)]


def turn(
    module: str,
    *words: object,
    checkout: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """One run of ``work`` in a process of its own: its last line, which is JSON.

    ``environment`` is the whole of it, instead of this process's.
    """
    around = {**(os.environ if environment is None else environment), **environment_for(checkout)}
    done = subprocess.run(
        worker_command(module, *words),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=around,
    )
    return json.loads(done.stdout.splitlines()[-1])


def commit_of(checkout: Path | None) -> str | None:
    """The commit that a checkout is at."""
    if checkout is None:
        return None
    command = ("git", "-C", str(checkout), "rev-parse", "--short", "HEAD")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def published_python(parser: argparse.ArgumentParser) -> None:
    """``--python``: the interpreter that has the published package; $QWEN_TTS_PYTHON unless set."""
    python = os.environ.get("QWEN_TTS_PYTHON")
    help_text = "an interpreter with qwen-tts; unless set, $QWEN_TTS_PYTHON"
    parser.add_argument("--python", default=python, required=python is None, help=help_text)


def median_ms(work: Callable[[], object], times: int) -> float:
    """The median time of a call, after one that is not counted."""
    work()
    taken_s = []
    for _ in range(times):
        began_s = time.perf_counter()
        work()
        taken_s.append(time.perf_counter() - began_s)
    return statistics.median(taken_s) * 1000


class Conversation:
    """A process that answers each line with a line of JSON; what else it prints is passed over."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment
        )

    def ask(self, line: str) -> dict[str, Any]:
        """Say a line and wait for the answer. Raises RuntimeError where none comes."""
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """What it says next. Raises RuntimeError where it has ended."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise RuntimeError("a process of the benchmark has ended")

    def end(self) -> None:
        """There are no more lines; what it says after that can still be read."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def close(self) -> None:
        """Wait for it to end, and end it where it does not."""
        self.end()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
