"""A progress bar for long texts: on standard error, and only where a person looks at it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

LONG_TEXT_CHARS = 400

Report = Callable[[int, float], None]
"""Called with the clause being spoken and the seconds of sound so far."""


@contextmanager
def progress(clause_chars: Sequence[int]) -> Iterator[Report]:
    """Show how much of the text is spoken; ``clause_chars`` are the clauses' lengths."""
    total = sum(clause_chars)
    if total < LONG_TEXT_CHARS or not sys.stderr.isatty():
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    done = [0, *accumulate(clause_chars)]
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)

        def report(clause: int, audio_s: float) -> None:
            completed = done[min(clause, len(done) - 1)]
            bar.update(task, completed=completed, description=f"{audio_s:.0f} s of speech")

        yield report
        bar.update(task, completed=total)


def _ignore(clause: int, audio_s: float) -> None:
    pass
