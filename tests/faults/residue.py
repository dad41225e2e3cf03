"""What is left in a server: slots, queue, tasks, threads and file descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Residue:
    """Counts at one moment; ``tasks`` is None where the event loop cannot be looked into."""

    running: int
    waiting: int
    live: int | None
    tasks: int | None
    threads: int
    descriptors: int

    def within(self, other: Residue) -> bool:
        """Whether nothing is left that was not there before."""
        pairs = zip(self._counts(), other._counts(), strict=True)
        return all(now is None or before is None or now <= before for now, before in pairs)

    def _counts(self) -> tuple[int | None, ...]:
        return (
            self.running, self.waiting, self.live, self.tasks, self.threads, self.descriptors
        )  # fmt: skip


def process_counts(pid: int | str = "self") -> tuple[int, int]:
    """Threads and file descriptors of a process, from /proc."""
    process = Path("/proc") / str(pid)
    return len(list((process / "task").iterdir())), len(list((process / "fd").iterdir()))
