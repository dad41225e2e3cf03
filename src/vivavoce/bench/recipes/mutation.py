"""Do the tests notice when a line of the service's core is wrong?

    pip install cosmic-ray==8.7.0        # in an environment of its own
    vivavoce bench recipe mutation --python .venv/bin/python [--only cache] [--share .5] [--seed 2]

Cosmic Ray changes one operator, number, condition or loop at a time, in a copy of the commit, and
runs the tests of that file; a mutant lives if they all pass. Type annotations are left alone: they
are never executed. ``--share`` tries a part of the mutants of each file, drawn by ``--seed``.
Writes benchmarks/results/mutation.json, with every survivor's line and, from
benchmarks/results/mutation_judged.json, why it may live.
"""

from __future__ import annotations

import argparse
import ast
import json
import multiprocessing
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .turns import RESULTS, ROOT, Result

JUDGED = RESULTS / "mutation_judged.json"

TARGETS = {
    "admission": ("speech/admission.py", "tests/speech/test_admission.py"),
    "pipeline": (
        "speech/pipeline.py",
        "tests/speech/test_pipeline.py tests/speech/test_clauses.py",
    ),
    "stream": ("speech/stream.py", "tests/speech/test_stream.py tests/speech/test_encoding.py"),
    "loop": ("engines/loop.py", "tests/engines/test_loop.py tests/engines/test_loop_faults.py"),
    "lifecycle": (
        "speech/lifecycle.py",
        "tests/speech/test_lifecycle.py tests/speech/test_given_up.py",
    ),
    "cache": ("speech/cache.py", "tests/speech/test_cache.py"),
    "auth": (
        "serving/auth.py",
        "tests/serving/test_auth_and_limits.py tests/serving/test_doors.py",
    ),
    "access": (
        "serving/access.py",
        "tests/serving/test_auth_and_limits.py tests/serving/test_keys.py"
        " tests/serving/test_client_tokens.py",
    ),
    "keys": ("serving/keys.py", "tests/serving/test_keys.py"),
    "callers": (
        "serving/callers.py",
        "tests/serving/test_usage.py tests/serving/test_keys.py"
        " tests/serving/test_client_tokens.py",
    ),
    "tokens": ("serving/client_tokens.py", "tests/serving/test_client_tokens.py"),
    "origins": ("serving/origins.py", "tests/serving/test_origins.py"),
}
"""A file of the package and the tests, parted by spaces, that must notice."""

CONFIG = """
[cosmic-ray]
module-path = "src/vivavoce/{module}"
timeout = {timeout_s}
excluded-modules = []
test-command = "env PYTHONPATH=src {python} -m pytest -q -x -p no:cacheprovider {tests}"
[cosmic-ray.distributor]
name = "local"
"""


@dataclass(frozen=True, slots=True)
class Work:
    """One target in a copy of the tree."""

    name: str
    python: str
    commit: str
    timeout_s: float
    share: float
    seed: int


def measure(work: Work) -> tuple[str, dict[str, Any]]:
    """Every mutant of one file."""
    module, tests = TARGETS[work.name]
    with tempfile.TemporaryDirectory(prefix="mutants-") as room:
        subprocess.run(
            f"git -C '{ROOT}' archive {work.commit} | tar -x -C '{room}'", shell=True, check=True
        )
        config, session = Path(room) / "mutants.toml", Path(room) / "mutants.sqlite"
        config.write_text(
            CONFIG.format(module=module, tests=tests, python=work.python, timeout_s=work.timeout_s)
        )
        tool = [sys.executable, "-m", "cosmic_ray.cli"]
        subprocess.run([*tool, "init", str(config), str(session)], cwd=room, check=True)
        subprocess.run([*tool, "baseline", str(config)], cwd=room, check=True)
        source = (Path(room) / "src" / "vivavoce" / module).read_text()
        skipped = skip_annotations(session, source)
        skip_all_but(session, work.share, work.seed)
        subprocess.run([*tool, "exec", str(config), str(session)], cwd=room, check=True)
        found = results(session, source)
        return work.name, {
            "module": module,
            "annotations": skipped,
            "tried_share": work.share,
            "seed": work.seed,
            **found,
        }


def skip_annotations(session: Path, source: str) -> int:
    """Take the mutants of annotations out of a session; returns how many there were."""
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import WorkerOutcome, WorkResult

    spans = list(annotation_spans(source))
    skipped = 0
    with use_db(str(session), WorkDB.Mode.open) as db:
        for item in list(db.pending_work_items):
            start = item.mutations[0].start_pos
            if any(begin <= start < end for begin, end in spans):
                db.set_result(item.job_id, WorkResult(WorkerOutcome.SKIPPED, output="annotation"))
                skipped += 1
    return skipped


def skip_all_but(session: Path, share: float, seed: int) -> None:
    """Take mutants out of a session at random, by ``seed``, until that share is left."""
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import WorkerOutcome, WorkResult

    drawn = random.Random(seed)
    with use_db(str(session), WorkDB.Mode.open) as db:
        for item in sorted(db.pending_work_items, key=_place):
            if drawn.random() >= share:
                db.set_result(item.job_id, WorkResult(WorkerOutcome.SKIPPED, output="not drawn"))


def _place(item: Any) -> tuple[Any, ...]:
    """What tells one mutant from another, the same in every run."""
    mutation = item.mutations[0]
    return mutation.start_pos, mutation.operator_name, mutation.occurrence


def annotation_spans(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations stand: (line, column) of their start and end."""
    for node in ast.walk(ast.parse(source)):
        annotation = getattr(node, "returns", None) or getattr(node, "annotation", None)
        if isinstance(annotation, ast.expr):
            end = (annotation.end_lineno or 0, annotation.end_col_offset or 0)
            yield (annotation.lineno, annotation.col_offset), end


def results(session: Path, source: str) -> dict[str, Any]:
    """How many were killed, and each survivor."""
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import TestOutcome, WorkerOutcome

    judged = json.loads(JUDGED.read_text()) if JUDGED.exists() else {}
    lines = source.splitlines()
    mutants, survivors = 0, []
    with use_db(str(session), WorkDB.Mode.open) as db:
        for item, result in db.completed_work_items:
            if result.worker_outcome is WorkerOutcome.SKIPPED:
                continue
            mutants += 1
            if result.test_outcome is not TestOutcome.SURVIVED:
                continue
            mutation = item.mutations[0]
            line = lines[mutation.start_pos[0] - 1].strip()
            changed = [each[1:].strip() for each in (result.diff or "").splitlines()]
            added = [
                text
                for text, raw in zip(changed, (result.diff or "").splitlines(), strict=True)
                if raw.startswith("+") and not raw.startswith("+++")
            ]
            key = f"{mutation.module_path.name}: {line} -> {' '.join(added)}"
            survivors.append(
                {
                    "line": mutation.start_pos[0],
                    "mutant": key,
                    "judged": judged.get(key, "not judged yet"),
                }
            )
    killed = mutants - len(survivors)
    return {
        "mutants": mutants,
        "killed": killed,
        "share": round(killed / mutants, 4),
        "survivors": sorted(survivors, key=lambda each: each["line"]),
    }


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--python", default=sys.executable, help="with the package's dev extras")
    parser.add_argument("--only", action="append", choices=list(TARGETS))
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds for one mutant")
    parser.add_argument("--share", type=float, default=1.0, help="of each file's mutants")
    parser.add_argument("--seed", type=int, default=1, help="which ones that share is")


def main(asked: argparse.Namespace) -> Result:
    """Run the targets, two at a time; those that are not run stay as they were found before."""
    python = str(Path(asked.python).absolute())
    works = [
        Work(name, python, asked.commit, asked.timeout, asked.share, asked.seed)
        for name in asked.only or list(TARGETS)
    ]
    with multiprocessing.Pool(2) as pool:
        found = dict(pool.imap_unordered(measure, works))
    report = json.loads(asked.json.read_text()) if asked.json.exists() else {}
    targets = report.get("targets", {}) | found
    killed = sum(each["killed"] for each in targets.values())
    total = sum(each["mutants"] for each in targets.values())
    for name, each in sorted(targets.items()):
        print(f"{name:10} {each['killed']:4} of {each['mutants']:4} killed ({each['share']:.1%})")
    print(f"{killed} of {total} killed ({killed / total:.1%})")
    return Result({"targets": targets, "killed_share": round(killed / total, 4)})
