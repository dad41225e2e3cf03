"""A thousand callers hang up on Piper at any moment: what is left, and how the next call goes.

    python benchmarks/hangup.py [--calls 1000]

Every transport (HTTP, events, PCM, WebSocket), phase (before the headers, queued, before the
first sound, mid-stream, at the end) and kind of close (FIN, RST), drawn at random. Writes
benchmarks/results/hangup.json; the exit status says whether nothing was left.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from faults.rawcalls import CALLERS, TEXTS, Call, hang_up_all, random_calls  # noqa: E402
from faults.residue import normal_call, process_residue  # noqa: E402
from quality.live import LiveServer, serving, settled  # noqa: E402
from vivavoce.bench.device import provenance  # noqa: E402

SETTINGS = {"capacity": 8, "max_queue_depth": 0, "audio_cache_max": 0}
RELEASE = "tts_cancel_to_release_seconds"


def main() -> None:
    """Hang up, look, write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--engine", default="piper")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "hangup.json")
    chosen = parser.parse_args()
    calls = random_calls(chosen.calls, TEXTS, chosen.seed)
    with serving(chosen.engine, SETTINGS) as live:
        found = hang_up(live, calls)
    report = {**provenance(), "calls": chosen.calls, "seed": chosen.seed, "callers": CALLERS}
    report |= {"settings": SETTINGS, "drawn": drawn(calls), **found}
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    sys.exit(0 if found["nothing_left"] and found["next_call_is_the_same"] else 1)


def hang_up(live: LiveServer, calls: list[Call]) -> dict[str, Any]:
    """Make the calls between two looks at the server."""
    sound = normal_call(live.url)
    # Pools grow to their size with the first calls; what counts is what the others leave.
    asyncio.run(hang_up_all(live.port, random_calls(2 * CALLERS, TEXTS, seed=0)))
    settled(lambda: process_residue(live), lambda seen: seen.running == 0)
    before, began_s = process_residue(live), time.monotonic()
    answered_bytes = asyncio.run(hang_up_all(live.port, calls))
    took_s = time.monotonic() - began_s
    after = settled(lambda: process_residue(live), lambda seen: seen.within(before))
    return {
        "took_s": round(took_s, 1),
        "answered_bytes": answered_bytes,
        "before": asdict(before),
        "after": asdict(after),
        "nothing_left": after.within(before),
        "next_call_is_the_same": normal_call(live.url) == sound,
        "outcomes": outcomes(live),
        "hang_up_to_slot_free_mean_ms": mean_ms(live, RELEASE),
        "step_mean_ms": mean_ms(live, "tts_step_seconds", stage="step"),
    }


def drawn(calls: Sequence[Call]) -> dict[str, int]:
    """How many calls of each kind there were."""
    kinds = collections.Counter(f"{one.transport.name} {one.phase.value}" for one in calls)
    return dict(sorted(kinds.items()))


def outcomes(live: LiveServer) -> dict[str, float]:
    """How the server saw the calls end."""
    names = ("ok", "cancelled", "rejected", "invalid", "backpressure", "deadline", "engine_error")
    return {name: live.metric("tts_requests_total", outcome=name) for name in names}


def mean_ms(live: LiveServer, name: str, **labels: str) -> float:
    """The mean of a histogram of seconds."""
    total_s, count = (live.metric(f"{name}_{part}", **labels) for part in ("sum", "count"))
    return round(total_s / count * 1000, 3) if count else 0.0


if __name__ == "__main__":
    main()
