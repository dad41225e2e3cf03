"""What is left in a server: slots, queue, tasks, threads and file descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import httpx

from quality.live import LiveServer, metric

REFERENCE = "This is the call after all the others."


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


def process_residue(live: LiveServer) -> Residue:
    """What is in a server process, by its own account and by /proc."""
    with live.client() as client:
        health = client.get("/health").json()
        exposition = client.get("/metrics").text
    assert health["running"] == metric(exposition, "tts_requests_running")
    assert health["queue_depth"] == metric(exposition, "tts_requests_waiting")
    threads, descriptors = process_counts(live.process.pid)
    return Residue(health["running"], health["queue_depth"], None, None, threads, descriptors)


def normal_call(url: str) -> bytes:
    """The sound of a call that nobody disturbs; the same every time."""
    body = {"input": REFERENCE, "sample_rate": 24_000, "seed": 1}
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        return client.post("/v1/audio/speech/stream/pcm", json=body).raise_for_status().content
