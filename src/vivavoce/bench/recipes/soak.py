"""Half an hour of mixed traffic: does it leave the server as it was?

    vivavoce bench recipe soak [--minutes 30] [--engine fake]

Of a hundred callers 70 hear their text to its end, 10 cancel, 5 are killed, 5 read slowly, 5 send
what cannot be spoken and 5 interrupt. Writes benchmarks/results/soak.json; the exit status says
whether every caller got what he should and nothing was left.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import asdict
from typing import Any

from .turns import Result, tests_on_path

tests_on_path()

from faults.traffic import SHARES, Sample, Traffic, judge, look  # noqa: E402
from quality.live import serving, settled  # noqa: E402

SETTINGS = {"capacity": 6, "max_queue_depth": 8, "audio_cache_max": 64, "fake.step_ms": 2}
KEPT_SAMPLES = 60
WARM_UP_S = 30.0


def soak(engine: str, settings: dict[str, Any], asked: argparse.Namespace) -> dict[str, Any]:
    """One server, one run."""
    with serving(engine, settings) as live:
        asyncio.run(Traffic(live, asked.seed + 1, asked.callers).run(WARM_UP_S))
        account = asyncio.run(Traffic(live, asked.seed, asked.callers).run(asked.minutes * 60))
        began_s = time.monotonic()
        idle = settled(lambda: look(live, began_s), lambda seen: seen.running + seen.waiting == 0)
    verdict = judge(account, idle)
    return {
        "callers": dict(account.done),
        "told_to_come_again": account.refused,
        "complaints": list(verdict.complaints),
        "memory_growth": verdict.memory_growth,
        "idle_afterwards": asdict(idle),
        "samples": [asdict(one) for one in thinned(account.samples)],
    }


def thinned(samples: list[Sample]) -> list[Sample]:
    """As many as a reader wants to see, evenly spaced."""
    step = max(len(samples) // KEPT_SAMPLES, 1)
    return samples[::step]


def options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--engine", default="fake")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)


def main(asked: argparse.Namespace) -> Result:
    """Call for the time asked, look, judge."""
    settings = {
        name: value
        for name, value in SETTINGS.items()
        if asked.engine == "fake" or not name.startswith("fake.")
    }
    found = soak(asked.engine, settings, asked)
    report = {"engine": asked.engine, "minutes": asked.minutes, "seed": asked.seed}
    report |= {"settings": settings, "callers_at_once": asked.callers}
    report |= {"shares": {kind.value: share for kind, share in SHARES.items()}}
    print(f"{sum(found['callers'].values())} callers, memory {found['memory_growth']:+.2%}")
    for complaint in found["complaints"]:
        print(complaint)
    return Result(report | found, well=not found["complaints"])
