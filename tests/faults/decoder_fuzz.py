"""Damaged recordings of every format, sent to a running server, and what became of each."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx

from audio import recordings
from faults.uploads import CLONE, upload
from quality.live import LiveServer

CALLERS = 4
ANSWERS = (200, 400)


@dataclass(slots=True)
class Fuzzed:
    """Answers by format and status; ``failed`` names every mutant with another answer."""

    answers: dict[str, collections.Counter[int]] = field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    failed: list[tuple[str, int, int | str]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many were sent."""
        return sum(counter.total() for counter in self.answers.values())


def mutants(first: int, count: int) -> Iterator[tuple[str, int, bytes]]:
    """``count`` recordings, from the seed ``first`` on, format after format."""
    whole = {name: recordings.recording(name, 0.4) for name in recordings.FORMATS}
    turns = itertools.cycle(recordings.FORMATS)
    for seed in range(first, first + count):
        name = next(turns)
        yield name, seed, recordings.mutant(whole[name], seed)


def fuzz(server: LiveServer, sent: Iterable[tuple[str, int, bytes]], found: Fuzzed) -> None:
    """Have every mutant cloned, a few at a time."""
    with server.client() as client, ThreadPoolExecutor(CALLERS) as callers:

        def send(each: tuple[str, int, bytes]) -> tuple[str, int, int | str]:
            name, seed, data = each
            try:
                return name, seed, upload(client, CLONE, data, input="A.").status_code
            except httpx.TransportError as error:
                return name, seed, type(error).__name__

        for name, seed, status in callers.map(send, sent):
            found.answers[name][status] += 1  # type: ignore[index]
            if status not in ANSWERS:
                found.failed.append((name, seed, status))
